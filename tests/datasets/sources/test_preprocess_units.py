"""What pixels mean in metres, and where the probe lies, once patterns are changed."""

from dataclasses import replace

import numpy as np
import pytest

from ptychostream.datasets.sources.preprocess import Preprocessing, preprocess
from ptychostream.scan import ScanMetadata

WAVELENGTH = 1.239841984e-6 / 9000
DISTANCE, DETECTOR_PIXEL = 1.7, 55e-6

CHANGES = [{"bin": 2}, {"crop": 8}, {"pad": 24}, {"bin": 2, "pad": 20}, {"bin": 2, "crop": 8}]


@pytest.fixture
def scan(tiny_scan):
    nominal = tiny_scan.positions + np.random.default_rng(0).normal(size=(64, 2))
    metadata = ScanMetadata(
        energy_eV=9000.0,
        detector_distance_m=DISTANCE,
        detector_pixel_size_m=DETECTOR_PIXEL,
        object_pixel_size_m=WAVELENGTH * DISTANCE / (16 * DETECTOR_PIXEL),
    )
    return replace(tiny_scan, positions_start=nominal, metadata=metadata)


@pytest.mark.parametrize("change", CHANGES, ids=str)
def test_the_object_pixel_is_that_of_the_changed_detector(scan, change):
    changed = preprocess(scan, Preprocessing(**change))
    metadata = changed.metadata
    assert metadata.detector_pixel_size_m == pytest.approx(DETECTOR_PIXEL * change.get("bin", 1))
    assert metadata.object_pixel_size_m == pytest.approx(
        WAVELENGTH * DISTANCE / (changed.N * metadata.detector_pixel_size_m)
    )


@pytest.mark.parametrize("change", CHANGES, ids=str)
def test_steps_and_nominal_steps_keep_their_length_in_metres(scan, change):
    changed = preprocess(scan, Preprocessing(**change))
    sizes = [s.metadata.object_pixel_size_m for s in (scan, changed)]
    for name in ("positions", "positions_start"):
        before, after = (
            np.diff(getattr(s, name), axis=0) * size
            for s, size in zip((scan, changed), sizes, strict=True)
        )
        np.testing.assert_allclose(after, before, rtol=1e-9)
    shift = changed.positions_start - changed.positions
    np.testing.assert_allclose(
        shift * sizes[1], (scan.positions_start - scan.positions) * sizes[0], rtol=1e-9
    )


def test_what_is_unknown_stays_unknown(scan):
    blank = replace(scan, positions_start=None, metadata=ScanMetadata())
    for change in CHANGES:
        changed = preprocess(blank, Preprocessing(**change))
        assert changed.metadata == ScanMetadata()
        assert changed.positions_start is None


@pytest.mark.parametrize("block", [2, 4])
def test_a_binned_probe_is_seen_through_a_smaller_window_around_its_centre(scan, block):
    edge = 16
    probe = np.zeros((2, edge, edge), np.complex64)
    places = {(0, 0): 3j, (1, 0): 2, (-2, 1): 1 + 1j, (-edge // 2, 3): 9}
    for (y, x), value in places.items():
        probe[:, edge // 2 + y, edge // 2 + x] = value
    binned = preprocess(replace(scan, probe=probe), Preprocessing(bin=block)).probe
    middle = edge // block // 2
    assert binned.shape == (2, 2 * middle, 2 * middle)
    *inside, _ = places.items()
    for (y, x), value in inside:
        np.testing.assert_allclose(np.abs(binned[:, middle + y, middle + x]), abs(value), rtol=1e-6)
    assert np.count_nonzero(binned) == 2 * len(inside)
