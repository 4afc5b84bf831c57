from dataclasses import replace

import numpy as np
import pytest
from ptychodus.api.assemble import assemble_dataset
from ptychodus.api.geometry import PixelGeometry

from ptychodus_ext.files import npz_reader
from ptychodus_ext.files.npz_reader import NpzReader
from ptychostream.datasets.sources.npz import write_npz
from ptychostream.errors import DataContractError
from ptychostream.scan import ArrayPatterns


def counts_of(scan):
    return scan.patterns.read(np.arange(scan.num_patterns))


def read(path):
    data = assemble_dataset(
        NpzReader().read(path), raw_pixel_geometry=PixelGeometry(75e-6, 75e-6), max_workers=2
    )
    return data.get_patterns()[np.argsort(data.get_indexes())]


@pytest.mark.parametrize("compress", [True, False])
def test_counts_arrive_as_they_are(compress, scan, tmp_path, monkeypatch):
    monkeypatch.setattr(npz_reader, "_PART_BYTES", 10 * 16**2 * 4)
    write_npz(scan, tmp_path / "a.npz", compress=compress)
    dataset = NpzReader().read(tmp_path / "a.npz")
    assert len(dataset) > 5
    expected = counts_of(scan)
    at = 0
    for array in dataset:
        number = array.get_num_patterns()
        assert np.array_equal(array.get_indexes(), np.arange(at, at + number))
        assert np.array_equal(array.get_patterns(), expected[at : at + number])
        at += number
    assert at == 64
    assert np.array_equal(dataset.get_bad_pixels(), scan.bad_pixels)
    good = ~scan.bad_pixels
    assert np.array_equal(read(tmp_path / "a.npz")[:, good], expected[:, good])


def test_declared_amplitudes_are_squared(scan, tmp_path):
    counts = counts_of(scan)
    amplitudes = replace(
        scan, patterns=ArrayPatterns(np.sqrt(counts)), measurement_domain="amplitude"
    )
    write_npz(amplitudes, tmp_path / "a.npz")
    good = ~scan.bad_pixels
    assert np.allclose(read(tmp_path / "a.npz")[:, good], counts[:, good], rtol=1e-6)


def test_files_that_ptychodus_writes_are_read(written_by_ptychodus, scan):
    """They declare nothing, but hold integers."""
    good = ~scan.bad_pixels
    assert np.array_equal(read(written_by_ptychodus)[:, good], counts_of(scan)[1::2][:, good])


def test_numbers_that_could_be_counts_or_amplitudes_are_refused(scan, tmp_path):
    np.savez(
        tmp_path / "a.npz",
        xcoords=scan.positions[:, 0],
        ycoords=scan.positions[:, 1],
        probeGuess=scan.probe,
        diff3d=counts_of(scan).astype(np.float32),
    )
    with pytest.raises(DataContractError, match="add measurement_domain='counts' or 'amplitude'"):
        NpzReader().read(tmp_path / "a.npz")
