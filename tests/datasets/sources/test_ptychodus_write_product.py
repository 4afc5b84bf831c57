from dataclasses import replace

import h5py
import numpy as np
import pytest
from tiny import tiny_config, untrained

import ptychostream as ps
from ptychostream.datasets.sources.ptychodus.product import object_pixel_size_m, write_product
from ptychostream.reconstruction.result import save_result
from ptychostream.scan import ArrayPatterns, ScanMetadata


@pytest.fixture
def product(tmp_path):
    rng = np.random.default_rng(0)
    positions = rng.uniform(10, 30, (7, 2))
    metadata = ScanMetadata(energy_eV=10000.0, detector_distance_m=2.0, detector_pixel_size_m=75e-6)
    write_product(
        tmp_path / "object.h5",
        obj=np.ones((40, 44), np.complex64),
        probe=np.full((2, 16, 16), 2, np.complex64),
        positions=positions,
        metadata=metadata,
        losses=[3.0, 2.0],
    )
    return tmp_path / "object.h5", positions


def test_product_has_the_contracts_parts(product):
    with h5py.File(product[0]) as file:
        for name in ("name", "comments", "detector_object_distance_m", "probe_energy_eV"):
            assert name in file.attrs
        assert file.attrs["exposure_time_s"] == 0
        assert file.attrs["probe_photon_count"] == 2 * 256 * 4
        assert file["probe"].shape == (1, 2, 16, 16)
        assert file["object"].shape == (1, 40, 44)
        assert file["object_layer_spacing_m"].shape == (0,)
        assert file["loss_values"][:].tolist() == [3.0, 2.0]
        assert file["probe_position_indexes"][:].tolist() == list(range(7))


def test_positions_return_to_our_pixels_by_ptychodus_rule(product):
    path, positions = product
    with h5py.File(path) as file:
        pixel = file["object"].attrs["pixel_width_m"]
        for axis, size, label in ((0, 44, "x"), (1, 40, "y")):
            metres = file[f"probe_position_{label}_m"][:]
            centre = file["object"].attrs[f"center_{label}_m"]
            theirs = (metres - centre) / pixel + (size - 1) / 2
            # Their patch begins at position - (N - 1) / 2, ours at position - N / 2.
            np.testing.assert_allclose(theirs - 7.5, positions[:, axis] - 8)


def test_pixel_size_is_wavelength_times_distance_over_the_detector():
    metadata = ScanMetadata(
        energy_eV=12398.41984, detector_distance_m=1.5, detector_pixel_size_m=50e-6
    )
    size, is_assumed = object_pixel_size_m(metadata, 64)
    assert size == pytest.approx(1e-10 * 1.5 / (64 * 50e-6))
    assert not is_assumed
    assert object_pixel_size_m(ScanMetadata(), 64)[1]
    assert object_pixel_size_m(ScanMetadata(object_pixel_size_m=1e-8), 64) == (1e-8, False)


def test_positions_keep_the_numbers_of_their_patterns(tiny_scan, tmp_path):
    """A product of a scan with gaps belongs beside its source, which counts the gaps."""
    scan = replace(
        tiny_scan,
        patterns=ArrayPatterns(tiny_scan.patterns.read(np.arange(64))),
        scan_index=3 * np.arange(64) + 5,
    )
    store = ps.build_group_store(scan, tmp_path / "gaps.zarr")
    bundle = untrained(tiny_config(tmp_path), store)
    save_result(ps.reconstruct(bundle, store, passes=0), tmp_path / "result")
    with h5py.File(tmp_path / "result" / "object.h5") as file:
        assert np.array_equal(file["probe_position_indexes"], scan.scan_index)


def test_numbers_that_repeat_name_no_pattern(tiny_store, two_experiments):
    assert np.array_equal(tiny_store.pattern_numbers(0), np.arange(64))
    for experiment, number in enumerate((20, 31)):
        assert np.array_equal(two_experiments.pattern_numbers(experiment), np.arange(number))
    same = replace(tiny_store, scan_index=np.zeros(64, np.int64))
    assert np.array_equal(same.pattern_numbers(0), np.arange(64))


def test_an_object_that_begins_elsewhere_lies_where_its_positions_are(tmp_path):
    positions = np.random.default_rng(1).uniform(10, 30, (7, 2))
    origin, size = np.array([-12, 5]), np.array([44, 40])
    write_product(
        tmp_path / "object.h5",
        obj=np.ones(size[::-1], np.complex64),
        probe=np.ones((1, 16, 16), np.complex64),
        positions=positions,
        metadata=ScanMetadata(object_pixel_size_m=2e-8),
        origin=tuple(origin.tolist()),
    )
    with h5py.File(tmp_path / "object.h5") as file:
        metres = np.stack([file[f"probe_position_{axis}_m"][:] for axis in "xy"], axis=1)
        centre = np.array([file["object"].attrs[f"center_{axis}_m"] for axis in "xy"])
    on_the_object = (metres - centre) / 2e-8 + (size - 1) / 2 + 0.5
    np.testing.assert_allclose(on_the_object, positions - origin)


def test_a_product_says_when_its_energy_is_assumed(tmp_path):
    known = {"energy_eV": 9e3, "detector_distance_m": 2.0, "object_pixel_size_m": 1e-8}
    for number, missing in enumerate((None, "energy_eV", "detector_distance_m")):
        write_product(
            tmp_path / f"{number}.h5",
            obj=np.ones((8, 8), np.complex64),
            probe=np.ones((1, 4, 4), np.complex64),
            positions=np.array([[4.0, 4.0]]),
            metadata=ScanMetadata(**(known | ({missing: None} if missing else {}))),
        )
        with h5py.File(tmp_path / f"{number}.h5") as file:
            assert ("geometry assumed" in file.attrs["comments"]) == (missing is not None)
