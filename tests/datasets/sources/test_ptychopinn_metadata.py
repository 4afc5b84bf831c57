"""What PtychoPINN says of a simulated scan is read, and nothing in it can run."""

import json
import os
import pickle
from dataclasses import replace

import h5py
import numpy as np
import pytest

import ptychostream as ps
from ptychostream.datasets.batches.scaling import with_scaling_profile
from ptychostream.datasets.sources.ptychopinn_metadata import photons_of_hdf5
from ptychostream.errors import DataContractError

NESTED = {"schema_version": "1.0", "physics_parameters": {"nphotons": 1e6, "N": 16}}


class Command:
    """Runs a command where it is unpickled."""

    def __reduce__(self):
        return os.system, ("touch executed",)


def _write(path, scan, metadata):
    counts = next(scan.patterns.blocks(64))
    np.savez(
        path,
        xcoords=scan.positions[:, 0],
        ycoords=scan.positions[:, 1],
        diff3d=np.sqrt(counts / 7).astype(np.float32),
        probeGuess=scan.probe[0],
        _metadata=np.array(metadata, dtype=object),
    )
    return path


@pytest.mark.parametrize("metadata", [{"nphotons": 1e6}, NESTED], ids=["flat", "nested"])
def test_the_dose_in_a_files_metadata_is_the_one_trained_with(
    tiny_scan, make_config, tmp_path, metadata, caplog
):
    path = _write(tmp_path / "scan.npz", tiny_scan, json.dumps(metadata))
    scan = ps.read_scan(path)
    assert scan.metadata.nphotons == 1e6
    store = ps.build_group_store(scan, tmp_path / "s.zarr", progress=False)
    assert with_scaling_profile(make_config(), store).nphotons == 1e6
    # A dose that is named counts, and the difference is said.
    assert with_scaling_profile(make_config(nphotons=1e5), store).nphotons == 1e5
    assert "was simulated with 1e+06" in caplog.text


def test_a_scan_without_metadata_keeps_the_configurations_dose(tiny_scan, make_config, tmp_path):
    raw = ps.RawDataTorch.from_scan(replace(tiny_scan, metadata=type(tiny_scan.metadata)()))
    raw.to_file(tmp_path / "scan.npz")
    scan = ps.read_scan(tmp_path / "scan.npz")
    assert scan.metadata.nphotons is None
    store = ps.build_group_store(scan, tmp_path / "s.zarr", progress=False)
    assert with_scaling_profile(make_config(), store).nphotons == 1e9


@pytest.mark.parametrize(
    ("metadata", "message"),
    [
        (Command(), "is not plain data"),
        ({"nphotons": 1e6}, "holds a dict, expected text"),
        ("{", "is not JSON"),
        (json.dumps({"nphotons": "many"}), "nphotons='many'"),
        (json.dumps({"nphotons": -1}), "nphotons=-1"),
    ],
    ids=["a command", "a dictionary", "no JSON", "text", "below zero"],
)
def test_metadata_that_are_no_text_of_numbers_are_refused(
    tiny_scan, tmp_path, monkeypatch, metadata, message
):
    monkeypatch.chdir(tmp_path)
    path = _write(tmp_path / "scan.npz", tiny_scan, metadata)
    with pytest.raises(DataContractError, match=message):
        ps.read_scan(path)
    assert not (tmp_path / "executed").exists()


@pytest.mark.parametrize("kind", ["text", "pickle"])
def test_a_product_says_its_dose_too(tmp_path, kind):
    text = json.dumps(NESTED)
    with h5py.File(tmp_path / "product.h5", "w") as file:
        assert photons_of_hdf5(file, "it") is None
        value = text if kind == "text" else np.void(pickle.dumps(text))
        file["raw_data/_metadata"] = value
        assert photons_of_hdf5(file, "it") == 1e6


def test_true_patches_under_ptychopinns_other_name_are_the_labels(tiny_scan, tmp_path):
    path = _write(tmp_path / "scan.npz", tiny_scan, json.dumps({}))
    patches = np.full((64, 16, 16), 2 + 1j, np.complex64)
    with np.load(path, allow_pickle=False) as given:
        kept = {name: given[name] for name in given.files if name != "_metadata"}
    np.savez(path, **kept, ground_truth_patches=patches)
    np.testing.assert_array_equal(ps.RawDataTorch.from_file(path).Y, patches)
