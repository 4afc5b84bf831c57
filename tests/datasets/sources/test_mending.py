"""Options that mend what was read with other options do both at once."""

import numpy as np
import pytest

import ptychostream as ps
from ptychostream.datasets.sources import InputOptions
from ptychostream.datasets.sources.mending import mended, one_after_the_other
from ptychostream.datasets.sources.preprocess import ORIENTATIONS

N = 16


@pytest.fixture
def path(tiny_scan, tmp_path):
    x, y = tiny_scan.positions.T
    patterns = tiny_scan.patterns.read(np.arange(tiny_scan.num_patterns))
    path = tmp_path / "scan.npz"
    np.savez(path, diff3d=patterns, xcoords=x, ycoords=y, probeGuess=tiny_scan.probe)
    return path


def read(path, options):
    return ps.read_scan(path, options=options)


@pytest.mark.parametrize("first", ORIENTATIONS)
@pytest.mark.parametrize("second", ORIENTATIONS)
def test_two_orientations_are_one(first, second):
    square = np.arange(36).reshape(6, 6)
    twice = ORIENTATIONS[second](ORIENTATIONS[first](square))
    both = ORIENTATIONS[one_after_the_other(first, second)](square)
    np.testing.assert_array_equal(both, twice)


@pytest.mark.parametrize(
    "given",
    [
        {},
        {"orientation": "rot90", "trigger_shift": -1},
        {"position_transform": "swap", "scan_rotation": 30.0, "probe_transform": "conjugate"},
    ],
)
@pytest.mark.parametrize(
    "mend",
    [
        ["--orientation", "flip_x"],
        ["--trigger_shift", "-2"],
        ["--position_transform", "flip_y"],
        ["--probe_transform", "conjugate"],
    ],
)
def test_options_and_their_mend_are_the_mend_of_what_they_read(path, tmp_path, given, mend):
    options = InputOptions(**given)
    once = read(path, options)
    name, value = mend[0][2:], mend[1]
    after = InputOptions(**{name: int(value) if name == "trigger_shift" else value})
    store = ps.build_group_store(once, tmp_path / "once.zarr")
    wanted = ps.build_group_store(store.path, tmp_path / "twice.zarr", options=after).scan(0)
    found = read(path, mended(options, mend, once, is_file=True))
    rows = np.arange(wanted.num_patterns)
    np.testing.assert_array_equal(found.patterns.read(rows), wanted.patterns.read(rows))
    np.testing.assert_allclose(found.probe, wanted.probe)
    steps = [scan.positions - scan.positions[0] for scan in (found, wanted)]
    np.testing.assert_allclose(*steps, atol=1e-9)


@pytest.mark.parametrize("orientation", [None, "transpose", "rot90", "flip_y"])
@pytest.mark.parametrize("centre", [None, "12,11"])
def test_a_centre_is_said_in_the_detectors_own_pixels(tmp_path, tiny_scan, orientation, centre):
    spot = np.zeros((tiny_scan.num_patterns, 24, 24), np.uint16)
    spot[:, 10, 14] = np.arange(1, len(spot) + 1)
    path = tmp_path / "scan.npy"
    np.save(path, spot)
    np.save(tmp_path / "xy.npy", tiny_scan.positions)
    options = InputOptions(
        positions=str(tmp_path / "xy.npy"), position_unit="px", orientation=orientation,
        probe="gaussian:4", centre=centre, crop=16, look="none",
    )  # fmt: skip
    scan = read(path, options)
    y, x = np.argwhere(scan.patterns.read(np.array([0]))[0])[0]
    assert mended(options, ["--centre", f"{x},{y}"], scan, is_file=True).centre == "14,10"
