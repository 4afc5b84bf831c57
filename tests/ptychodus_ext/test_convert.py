"""Metres of ptychodus and pixels of ours, against ptychodus's own conversions and files."""

from dataclasses import replace

import h5py
import numpy as np
import pytest

pytest.importorskip("ptychodus", reason="pip install 'ptychostream[ptychodus]'")

from ptychodus.api.geometry import PixelGeometry
from ptychodus.api.io import load_diffraction_data, load_product, save_product
from ptychodus.api.object import Object
from ptychodus.api.probe import ProbeSequence
from ptychodus.api.reconstruct import (
    PositionIndexFilter,
    ReconstructInput,
    prepare_reconstruct_input,
)

import ptychostream as ps
from ptychodus_ext.application import Application
from ptychodus_ext.convert import (
    left_out,
    positions_in_pixels,
    product_of_store,
    product_with,
    scan_of,
)
from ptychodus_ext.measured import write_store
from ptychostream.datasets.sources.ptychodus.experiment import write_ptychodus_experiment
from ptychostream.errors import DataContractError
from ptychostream.geometry import ObjectGrid


@pytest.fixture(scope="module")
def folder(tiny_scan, tmp_path_factory):
    """The object lies off-centre, and is not square."""
    folder = tmp_path_factory.mktemp("experiment")
    write_ptychodus_experiment(tiny_scan, folder)
    with h5py.File(folder / "product.h5", "r+") as file:
        for axis, by in (("x", 3e-6), ("y", -2e-6)):
            file[f"probe_position_{axis}_m"][:] += by
            file["object"].attrs[f"center_{axis}_m"] += by
    return folder


@pytest.fixture(scope="module")
def parameters(folder):
    """Every second pattern."""
    data = load_diffraction_data(folder / "diffraction.h5")
    product = load_product(folder / "product.h5")
    return prepare_reconstruct_input(data, product, PositionIndexFilter.EVEN)


def test_positions_are_those_of_ptychodus_and_half_a_pixel(parameters, tiny_scan):
    product = parameters.product
    geometry = product.object_.get_geometry()
    theirs = [geometry.map_coordinates_probe_to_object(p) for p in product.probe_positions]
    theirs = np.array([(point.x_px, point.y_px) for point in theirs])
    ours = positions_in_pixels(product)
    np.testing.assert_allclose(ours, theirs + 0.5, atol=1e-6)
    np.testing.assert_allclose(ours, tiny_scan.positions[::2], atol=1e-6)


def test_an_input_is_the_scan_that_our_reader_finds_in_the_files(parameters, folder):
    scan, read = scan_of(parameters), ps.read_scan(folder)
    rows = np.arange(0, 64, 2)
    assert np.array_equal(scan.scan_index, rows)
    assert np.array_equal(scan.patterns.read(np.arange(32)), read.patterns.read(rows))
    assert np.array_equal(scan.probe, read.probe)
    assert np.array_equal(scan.object_guess, read.object_guess)
    np.testing.assert_allclose(scan.positions, read.positions[rows], atol=1e-9)
    assert scan.measurement_domain == "counts"
    for name in ("energy_eV", "detector_distance_m", "object_pixel_size_m"):
        assert getattr(scan.metadata, name) == pytest.approx(getattr(read.metadata, name))


def test_patterns_that_do_not_fit_the_positions_are_refused(parameters):
    few = ReconstructInput(
        parameters.diffraction_patterns[:3], parameters.bad_pixels, parameters.product
    )
    with pytest.raises(DataContractError, match="3 diffraction patterns but 32 scan positions"):
        scan_of(few)


def test_a_result_lies_where_the_input_lay_also_in_a_file(parameters, tmp_path):
    product = parameters.product
    old = product.object_
    rng = np.random.default_rng(0)
    obj = rng.normal(size=(old.height_px, old.width_px, 2)).astype(np.float32).view(np.complex64)
    probe = rng.normal(size=(3, 16, 32)).astype(np.float32).view(np.complex64)
    result = product_with(product, obj[..., 0], probe, [3.0, 2.0])
    save_product(tmp_path / "result.h5", result)
    for found in (result, load_product(tmp_path / "result.h5")):
        assert np.array_equal(found.object_.get_array(), obj[None, ..., 0])
        assert found.object_.get_center() == old.get_center()
        assert found.object_.get_pixel_geometry() == old.get_pixel_geometry()
        assert np.array_equal(found.probes.get_array(), probe[None])
        assert found.probes.get_pixel_geometry() == product.probes.get_pixel_geometry()
        assert [p.index for p in found.probe_positions] == list(range(0, 64, 2))
        assert [(loss.epoch, loss.value) for loss in found.losses] == [(1, 3.0), (2, 2.0)]
        np.testing.assert_allclose(
            positions_in_pixels(found), positions_in_pixels(product), atol=1e-6
        )


@pytest.mark.parametrize("origin", [(0, 0), (-3, 5)])
def test_positions_of_a_store_return_to_their_pixels(parameters, tiny_scan, origin):
    product = parameters.product
    old = product.object_
    for grid in (ObjectGrid(old.height_px, old.width_px), ObjectGrid(70, 90, origin)):
        numbers = 2 * np.arange(64) + 1
        moved = product_of_store(product, tiny_scan.positions, grid, numbers)
        assert [point.index for point in moved.probe_positions] == numbers.tolist()
        found = positions_in_pixels(moved) + np.asarray(grid.origin)
        np.testing.assert_allclose(found, tiny_scan.positions, atol=1e-6)
        assert moved.object_.get_array().shape[-2:] == grid.shape
        assert moved.object_.get_pixel_geometry() == old.get_pixel_geometry()
        if grid.shape == (old.height_px, old.width_px):
            assert moved.object_.get_center() == old.get_center()


def test_pixels_may_be_taller_than_wide(parameters, tiny_scan):
    old = parameters.product.object_
    pixel = PixelGeometry(old.get_pixel_geometry().width_m, 3 * old.get_pixel_geometry().height_m)
    tall = replace(parameters.product, object_=Object(old.get_array(), pixel, old.get_center()))
    grid = ObjectGrid(old.height_px, old.width_px)
    for product in (tall, product_of_store(tall, tiny_scan.positions, grid)):
        geometry = product.object_.get_geometry()
        theirs = [geometry.map_coordinates_probe_to_object(p) for p in product.probe_positions]
        theirs = np.array([(point.x_px, point.y_px) for point in theirs])
        np.testing.assert_allclose(positions_in_pixels(product), theirs + 0.5, atol=1e-6)
    np.testing.assert_allclose(theirs + 0.5, tiny_scan.positions, atol=1e-6)


@pytest.mark.parametrize("kind", [np.ulonglong, np.longlong, np.uint32])
def test_any_whole_numbers_of_ptychodus_can_be_stored(parameters, tmp_path, kind):
    wide = replace(parameters, diffraction_patterns=parameters.diffraction_patterns.astype(kind))
    store = ps.build_group_store(scan_of(wide), tmp_path / "wide.zarr", progress=False)
    stored = store.diffraction(np.arange(store.num_patterns))
    assert np.array_equal(stored, parameters.diffraction_patterns)


def test_a_near_field_product_is_refused(parameters):
    metadata = parameters.product.metadata
    if not hasattr(metadata, "far_field"):
        pytest.skip("this version of ptychodus has no near field")
    near = replace(parameters.product, metadata=replace(metadata, far_field=False))
    with pytest.raises(DataContractError, match="near field"):
        scan_of(replace(parameters, product=near))


def test_what_is_left_out_is_said(parameters):
    product = parameters.product
    assert left_out(product) == []
    array = product.probes.get_array()
    weights = np.ones((len(product.probe_positions), 2))
    probes = ProbeSequence(
        np.concatenate([array, array]), weights, product.probes.get_pixel_geometry()
    )
    obj = product.object_
    layers = Object(
        np.concatenate([obj.get_array(), obj.get_array()]),
        obj.get_pixel_geometry(),
        obj.get_center(),
        [1e-6],
    )
    varying, layered = left_out(replace(product, probes=probes, object_=layers))
    assert "2 coherent modes" in varying
    assert "2 layers" in layered


def test_corrected_positions_and_a_comment_are_put_into_the_product(parameters):
    product = parameters.product
    moved = positions_in_pixels(product) + np.array([0.25, -0.5])
    obj, probe = product.object_.get_layer(0), product.probes.get_probe_no_opr().get_array()
    result = product_with(product, obj, probe, [0.5], positions=moved, comment="R = 0.1")
    np.testing.assert_allclose(positions_in_pixels(result), moved, atol=1e-6)
    assert result.metadata.comments.endswith("R = 0.1")
    assert product.metadata.comments in result.metadata.comments


def test_values_are_looked_at_as_those_of_a_file(parameters, tmp_path, caplog):
    """Hot pixels are flagged; a mask that holds the good pixels is refused in ptychodus's words."""
    counts = parameters.diffraction_patterns.copy()
    counts[:, 1, 2] = 2**20
    hot = replace(parameters, diffraction_patterns=counts)
    store = write_store([hot], tmp_path / "hot.zarr", Application())
    assert np.argwhere(store.bad_pixels[0]).tolist() == [[1, 2]]
    bad = np.ones(counts.shape[-2:], bool)
    bad[0, :3] = False
    with pytest.raises(DataContractError, match="looks inverted: load the opposite"):
        write_store([replace(parameters, bad_pixels=bad)], tmp_path / "in.zarr", Application())


def test_dark_patterns_are_said_in_the_words_of_the_window(parameters, tmp_path, caplog):
    counts = parameters.diffraction_patterns.copy()
    counts[3] = 0
    dark = replace(parameters, diffraction_patterns=counts)
    write_store([dark], tmp_path / "dark.zarr", Application())
    assert "leave such patterns out by the limits of the total counts" in caplog.text
    assert "--leave_out" not in caplog.text
