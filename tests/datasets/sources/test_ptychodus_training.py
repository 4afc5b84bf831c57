import h5py
import numpy as np
import pytest

import ptychostream as ps
from ptychostream.datasets.sources.ptychodus.training import write_ptychodus_training
from ptychostream.errors import DataContractError


def test_a_written_scan_is_read_back(tiny_scan, tmp_path):
    write_ptychodus_training(tiny_scan, tmp_path / "scan.h5")
    scan = ps.read_scan(tmp_path / "scan.h5")
    rows = np.array([3, 60, 3])
    np.testing.assert_array_equal(scan.patterns.read(rows), tiny_scan.patterns.read(rows))
    joined = np.concatenate(list(scan.patterns.blocks(20)))
    np.testing.assert_array_equal(joined, tiny_scan.patterns.read(np.arange(64)))
    np.testing.assert_allclose(scan.positions, tiny_scan.positions)
    np.testing.assert_array_equal(scan.probe, tiny_scan.probe)
    np.testing.assert_array_equal(scan.object_guess, tiny_scan.object_guess)


def test_positions_are_half_a_pixel_before_ours(tiny_scan, tmp_path):
    write_ptychodus_training(tiny_scan, tmp_path / "scan.h5")
    with h5py.File(tmp_path / "scan.h5") as file:
        stored = file["probe_position_x_px"][:]
    np.testing.assert_allclose(stored, tiny_scan.positions[:, 0] - 0.5)


def test_damaged_files_are_named(tiny_scan, tmp_path):
    path = tmp_path / "scan.h5"
    write_ptychodus_training(tiny_scan, path)
    data = path.read_bytes()
    path.write_bytes(data[: len(data) // 2])
    with pytest.raises(DataContractError, match=r"scan\.h5"):
        ps.read_scan(path)


def test_a_missing_dataset_is_named(tiny_scan, tmp_path):
    path = tmp_path / "scan.h5"
    write_ptychodus_training(tiny_scan, path)
    with h5py.File(path, "r+") as file:
        del file["probe"]
    with pytest.raises(DataContractError, match="lacks 'probe'"):
        ps.read_scan(path)
