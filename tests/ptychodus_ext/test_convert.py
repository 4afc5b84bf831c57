import numpy as np
import pytest

from ptychostream.errors import DataContractError
from ptychostream.geometry import ObjectGrid

pytest.importorskip("ptychodus", reason="pip install 'ptychostream[ptychodus]'")

from ptychodus.api.io import load_product
from ptychodus_runs import CENTRE, make_experiment

import ptychostream as ps
from ptychodus_ext.convert import (
    positions_in_pixels,
    product_of_store,
    product_with,
    scan_of,
)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return make_experiment(tmp_path_factory.mktemp("convert") / "in").folder


@pytest.fixture(scope="module")
def product(folder):
    return load_product(folder / "product.h5")


def _parameters(product, patterns, bad=None):
    from ptychodus.api.reconstruct import ReconstructInput

    return ReconstructInput(
        patterns, np.zeros(patterns.shape[1:], bool) if bad is None else bad, product
    )


def test_positions_agree_with_those_read_from_the_file(product, folder):
    scan = ps.read_scan(folder)
    np.testing.assert_allclose(positions_in_pixels(product), scan.positions, atol=1e-9)


def test_positions_agree_with_the_applications_own_map(product):
    geometry = product.object_.get_geometry()
    theirs = [geometry.map_coordinates_probe_to_object(p) for p in product.probe_positions]
    expected = np.array([(p.x_px, p.y_px) for p in theirs]) + 0.5
    np.testing.assert_allclose(positions_in_pixels(product), expected, atol=1e-9)


def test_a_scan_holds_counts_modes_and_bad_pixels(product):
    bad = np.zeros((32, 32), bool)
    bad[3, 4] = True
    counts = np.ones((len(product.probe_positions), 32, 32), np.uint16)
    scan = scan_of(_parameters(product, counts, bad))
    assert scan.measurement_domain == "counts"
    assert scan.bad_pixels[3, 4]
    assert scan.probe.shape == (1, 32, 32)
    assert scan.metadata.energy_eV == pytest.approx(8800.0)


def test_patterns_that_do_not_fit_the_positions_are_refused(product):
    with pytest.raises(DataContractError, match="3 diffraction patterns but 200 scan positions"):
        scan_of(_parameters(product, np.ones((3, 32, 32), np.uint16)))


def test_a_result_keeps_grid_centre_and_positions(product):
    rng = np.random.default_rng(0)
    obj = rng.normal(size=(90, 110)).astype(np.complex64)
    probe = np.ones((2, 32, 32), np.complex64)
    result = product_with(product, obj, probe, [3.0, 2.0])
    assert result.object_.get_center() == product.object_.get_center()
    assert result.object_.get_pixel_geometry() == product.object_.get_pixel_geometry()
    assert result.probe_positions is product.probe_positions
    assert (result.object_.get_array()[0] == obj).all()
    assert result.probes.num_incoherent_modes == 2
    assert [(loss.epoch, loss.value) for loss in result.losses] == [(1, 3.0), (2, 2.0)]


def test_positions_of_a_store_lie_on_the_grid_that_is_taken(product):
    positions = positions_in_pixels(product)
    same = product_of_store(product, positions, ObjectGrid(90, 110))
    found = np.array([(p.x_m, p.y_m) for p in same.probe_positions])
    given = np.array([(p.x_m, p.y_m) for p in product.probe_positions])
    np.testing.assert_allclose(found, given, atol=1e-15)
    assert (same.object_.get_center().x_m, same.object_.get_center().y_m) == pytest.approx(CENTRE)
    other = product_of_store(product, positions, ObjectGrid(80, 140, (-3, 5)))
    np.testing.assert_allclose(positions_in_pixels(other), positions - [-3, 5], atol=1e-9)
