import h5py
import numpy as np
import pytest

import ptychostream as ps
from ptychostream.errors import ConfigurationError, DataContractError
from ptychostream.scan import ScanMetadata
from ptychostream.simulation.probes import make_probe
from ptychostream.simulation.probes.shaping import effective_diameter
from ptychostream.simulation.scan_patterns import SCAN_PATTERNS, make_positions

SMALL = {"num_positions": 25, "N": 16}


def test_a_snake_never_jumps():
    positions = make_positions("snake", 90, 3.0, np.random.default_rng(0))
    np.testing.assert_allclose(np.linalg.norm(np.diff(positions, axis=0), axis=1), 3)
    raster = make_positions("raster", 90, 3.0, np.random.default_rng(0))
    full = 90 // 10 * 10
    assert {*map(tuple, positions[:full])} == {*map(tuple, raster[:full])}


def test_concentric_rings_lie_a_step_apart():
    positions = make_positions("concentric", 200, 4.0, np.random.default_rng(0))
    radius = np.linalg.norm(positions - positions[0], axis=1)
    np.testing.assert_allclose(radius / 4, np.round(radius / 4), atol=1e-9)
    assert np.abs(np.diff(np.unique(np.round(radius, 6))) - 4).max() < 1e-5


def test_overlap_is_a_fraction_of_the_probes_diameter():
    scan = ps.simulate_scan(
        num_positions=100, N=64, probe="disk", scan_pattern="raster", overlap=0.75
    )
    diameter = effective_diameter(make_probe("disk", 64))
    assert diameter == pytest.approx(24, rel=0.1)
    step = scan.positions[1, 0] - scan.positions[0, 0]
    assert step == pytest.approx(0.25 * diameter)


@pytest.mark.parametrize("name", SCAN_PATTERNS)
def test_patterns_are_made_at_true_positions(name):
    moved = ps.simulate_scan(
        **SMALL, scan_pattern=name, drift=(3, -6), position_noise=0.2, noise=False
    )
    error = moved.positions - moved.positions_start
    trend = error - np.linspace(0, 1, 25)[:, None] * np.array([3, -6])
    assert 0.1 < trend.std() < 0.3
    still = ps.simulate_scan(
        N=16, scan_pattern=moved.positions, object=moved.object_guess, noise=False
    )
    every = np.arange(25)
    np.testing.assert_allclose(
        still.patterns.read(every), moved.patterns.read(every), rtol=1e-5, atol=1e-3
    )
    assert still.positions_start is None


def test_both_positions_reach_the_store(tmp_path):
    scan = ps.simulate_scan(**SMALL, position_noise=1.0)
    store = ps.build_group_store(scan, tmp_path / "s.zarr")
    np.testing.assert_array_equal(store.positions, scan.positions)
    np.testing.assert_array_equal(store.positions_start, scan.positions_start)


def test_noise_of_positions_leaves_object_and_pattern_as_they_were():
    options = SMALL | {"object": "lines", "object_shape": (60, 60)}
    still, moved = (ps.simulate_scan(**options, position_noise=s) for s in (0, 0.1))
    np.testing.assert_array_equal(still.object_guess, moved.object_guess)
    shift = moved.positions_start - still.positions
    np.testing.assert_allclose(shift, shift[0] + np.zeros_like(shift), atol=1e-12)


def test_positions_are_read_from_files_as_they_are(tmp_path):
    positions = np.random.default_rng(0).uniform(20, 40, (30, 2))
    np.save(tmp_path / "p.npy", positions)
    np.savez(tmp_path / "p.npz", xcoords=positions[:, 0], ycoords=positions[:, 1])
    np.savetxt(tmp_path / "p.csv", positions, delimiter=",")
    np.savetxt(tmp_path / "p.txt", positions)
    with h5py.File(tmp_path / "p.h5", "w") as file:
        file["probe_position_x_px"], file["probe_position_y_px"] = positions.T - 0.5
    for ending in ("npy", "npz", "csv", "txt", "h5"):
        scan = ps.simulate_scan(N=16, scan_pattern=str(tmp_path / f"p.{ending}"))
        np.testing.assert_allclose(scan.positions, positions, rtol=1e-12)
    few = ps.simulate_scan(N=16, scan_pattern=str(tmp_path / "p.npy"), num_positions=7)
    np.testing.assert_array_equal(few.positions, positions[:7])
    with pytest.raises(ConfigurationError, match="num_positions=31 but .* holds 30"):
        ps.simulate_scan(N=16, scan_pattern=str(tmp_path / "p.npy"), num_positions=31)


def test_files_that_hold_no_positions_are_refused(tmp_path):
    (tmp_path / "p.csv").write_text("x,y\n1,2\n")
    np.save(tmp_path / "p.npy", np.ones((4, 3)))
    with h5py.File(tmp_path / "p.h5", "w") as file:
        file["other"] = 1
    for name, message in (("csv", "no table"), ("npy", r"\(4, 3\)"), ("h5", "holds other")):
        with pytest.raises(DataContractError, match=message):
            ps.simulate_scan(N=16, scan_pattern=str(tmp_path / f"p.{name}"))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"overlap": 0.5, "step": 2}, "give only one"),
        ({"overlap": 1.0}, "overlap=1 "),
        ({"position_noise": -1}, "position_noise=-1"),
        ({"drift": (np.inf, 0)}, "drift="),
        ({"scan_pattern": np.full((25, 2), 5.0)}, "begin before"),
        ({"scan_pattern": np.ones((25, 3))}, r"\(25, 3\)"),
        ({"metadata": ScanMetadata(nphotons=3)}, "metadata.nphotons=3"),
    ],
)
def test_impossible_positions_are_refused(options, message):
    with pytest.raises(ConfigurationError, match=message):
        ps.simulate_scan(**(SMALL | options))
