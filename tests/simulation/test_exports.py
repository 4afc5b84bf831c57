"""What is exported is read back, by our readers and by ptychodus itself."""

import json

import h5py
import numpy as np
import pytest

import ptychostream as ps
from ptychostream.datasets.sources.npz import write_npz
from ptychostream.datasets.sources.ptychodus.experiment import write_ptychodus_experiment
from ptychostream.datasets.sources.ptychodus.training import write_ptychodus_training
from ptychostream.errors import DataContractError
from ptychostream.scan import ScanMetadata
from ptychostream.simulation import Detector, labels_from_experiment

EVERY = np.arange(30)


@pytest.fixture(scope="module")
def scan():
    return ps.simulate_scan(
        num_positions=30,
        N=16,
        object="layers",
        scan_pattern="spiral",
        step=2,
        position_noise=0.3,
        mode_powers=[4, 1],
        detector=Detector(dead_fraction=0.01, bit_depth=16),
        metadata=ScanMetadata(
            energy_eV=8000.0, detector_distance_m=2.0, detector_pixel_size_m=75e-6
        ),
        seed=11,
    )


@pytest.fixture
def exports(scan, tmp_path):
    write_npz(scan, tmp_path / "s.npz")
    write_ptychodus_training(scan, tmp_path / "s.h5")
    write_ptychodus_experiment(scan, tmp_path / "s")
    return [tmp_path / name for name in ("s.npz", "s.h5", "s")]


def test_every_export_is_read_back(scan, exports):
    for path in exports:
        found = ps.read_scan(path)
        assert found.measurement_domain == "counts"
        assert found.patterns.dtype == np.uint16
        np.testing.assert_array_equal(found.patterns.read(EVERY), scan.patterns.read(EVERY))
        np.testing.assert_allclose(found.positions, scan.positions, atol=1e-9)
        np.testing.assert_array_equal(found.probe, scan.probe)
        np.testing.assert_array_equal(found.object_guess, scan.object_guess)
        np.testing.assert_array_equal(found.bad_pixels, scan.bad_pixels)


def test_seed_and_provenance_are_in_every_file(scan, exports, tmp_path):
    store = ps.build_group_store(scan, tmp_path / "s.zarr")
    origins = [ps.read_scan(path).provenance for path in exports]
    for origin in [*origins, *store.attributes["provenance"]]:
        assert origin["simulated"] == scan.provenance["simulated"]
        assert origin["simulated"]["seed"] == 11
    with h5py.File(exports[2] / "product.h5") as file:
        comment = file.attrs["comments"].splitlines()[-1]
    assert json.loads(comment) == scan.provenance


def test_a_provenance_suffices_to_simulate_again(scan, exports):
    options = dict(ps.read_scan(exports[0]).provenance["simulated"])
    options.pop("version")
    options["detector"] = Detector(**options["detector"])
    again = ps.simulate_scan(**options)
    np.testing.assert_array_equal(again.patterns.read(EVERY), scan.patterns.read(EVERY))


def test_every_export_keeps_energy_distance_and_pixels(scan, exports, tmp_path):
    store = ps.build_group_store(scan, tmp_path / "s.zarr")
    kept = ("energy_eV", "detector_distance_m", "object_pixel_size_m")
    for found in [*(ps.read_scan(path).metadata for path in exports), store.metadata_of(0)]:
        for name in kept:
            assert getattr(found, name) == pytest.approx(getattr(scan.metadata, name), rel=1e-9)
    assert ps.read_scan(exports[0]).metadata == scan.metadata


def test_npz_and_store_keep_nominal_positions_too(scan, exports):
    found = ps.read_scan(exports[0])
    np.testing.assert_array_equal(found.positions_start, scan.positions_start)
    assert np.abs(found.positions_start - found.positions).max() > 0.1


def test_labels_of_every_export_are_those_of_the_contract(scan, exports, tmp_path):
    store = ps.build_group_store(scan, tmp_path / "s.zarr")
    groups = store.groups(gridsize=1, neighbor_count=1, seed=0)
    spec = ps.to_spec_dict(store, groups)
    own = labels_from_experiment(scan).read(EVERY)
    np.testing.assert_allclose(own[spec["nn_indices"][:, 0]], spec["Y"][..., 0], atol=1e-6)
    files = [exports[0], exports[1], exports[2] / "product.h5"]
    for path in files:
        labels = labels_from_experiment(path)
        assert labels.shape == (30, 16, 16)
        np.testing.assert_allclose(np.concatenate(list(labels.blocks(7))), own, atol=1e-6)


def test_a_product_is_simulated_anew_as_it_is(scan, exports):
    product = str(exports[2] / "product.h5")
    twin = ps.simulate_scan(
        object=product, probe=product, scan_pattern=product, N=16, noise=False, nphotons=1e5
    )
    np.testing.assert_allclose(twin.positions, scan.positions, atol=1e-9)
    clean = twin.patterns.read(EVERY) * 10
    good = ~scan.bad_pixels
    difference = clean[:, good] - scan.patterns.read(EVERY)[:, good]
    bright = clean[:, good] > 100
    assert np.abs(difference[bright] / np.sqrt(clean[:, good][bright])).mean() == pytest.approx(
        np.sqrt(2 / np.pi), rel=0.05
    )


def test_an_object_is_needed_for_products_and_labels(exports):
    from dataclasses import replace

    bare = replace(ps.read_scan(exports[0]), object_guess=None)
    with pytest.raises(DataContractError, match="no object guess"):
        write_ptychodus_experiment(bare, exports[2])
    with pytest.raises(DataContractError, match="no labels"):
        labels_from_experiment(bare)


def test_ptychodus_reads_what_we_write(scan, exports):
    pytest.importorskip("ptychodus", reason="ptychodus is not installed")
    io = pytest.importorskip("ptychodus.api.io", reason="this ptychodus has no api.io")
    diffraction = io.load_diffraction_data(exports[2] / "diffraction.h5")
    np.testing.assert_array_equal(diffraction.get_patterns(), scan.patterns.read(EVERY))
    np.testing.assert_array_equal(diffraction.get_bad_pixels(), scan.bad_pixels)
    product = io.load_product(exports[2] / "product.h5")
    obj = product.object_
    geometry = obj.get_geometry()
    np.testing.assert_array_equal(obj.get_layer(0), scan.object_guess)
    found = []
    for point in product.probe_positions:
        inside = geometry.map_coordinates_probe_to_object(point)
        found.append((inside.x_px, inside.y_px))
    np.testing.assert_allclose(np.array(found) + 0.5, scan.positions, atol=1e-6)
    np.testing.assert_array_equal(product.probes.get_probe_no_opr().get_array(), scan.probe)
    assert product.metadata.photon_energy_eV == 8000


def test_ptychodus_reads_our_training_data(scan, exports):
    plugin = pytest.importorskip(
        "ptychodus.plugins.training_data_file", reason="ptychodus 1.7 is not installed"
    )
    product = plugin.TrainingDataProductFileReader().read(exports[1])
    geometry = product.object_.get_geometry()
    inside = [geometry.map_coordinates_probe_to_object(point) for point in product.probe_positions]
    found = np.array([(point.x_px, point.y_px) for point in inside])
    np.testing.assert_allclose(found + 0.5, scan.positions, atol=1e-6)
    dataset = plugin.TrainingDataDiffractionFileReader().read(exports[1])
    (array,) = dataset
    np.testing.assert_array_equal(array.get_patterns(), scan.patterns.read(EVERY))
    pixel = dataset.get_metadata().detector_pixel_geometry
    assert pixel.width_m == pytest.approx(75e-6, rel=1e-6)
