import numpy as np
import pytest

import ptychostream as ps
from ptychostream.errors import ConfigurationError
from ptychostream.simulation import Detector
from ptychostream.simulation.detector import DetectorPixels

SCAN = {"num_positions": 36, "N": 32, "nphotons": 1e5}
EVERY = np.arange(36)


def patterns(**options):
    return ps.simulate_scan(**(SCAN | options)).patterns.read(EVERY)


def test_a_perfect_detector_changes_nothing():
    intensity = np.random.default_rng(0).random((2, 16, 16))
    pixels = DetectorPixels(Detector(), 16, np.random.default_rng(0))
    assert pixels.expected_counts(intensity) is intensity
    assert pixels.bad_pixels is None


def test_point_spread_keeps_energy_and_blurs():
    intensity = np.zeros((1, 16, 16))
    intensity[0, 0, 3] = 5
    intensity[0, 8, 8] = 7
    pixels = DetectorPixels(Detector(point_spread=1.5), 16, np.random.default_rng(0))
    spread = pixels.expected_counts(intensity)
    assert spread.sum() == pytest.approx(12)
    assert spread.max() < 1.5
    exact, blurred = (patterns(noise=False, detector=Detector(point_spread=s)) for s in (0, 1.0))
    np.testing.assert_allclose(blurred.sum((1, 2)), exact.sum((1, 2)), rtol=1e-5)
    assert blurred.std() < exact.std()


def test_background_adds_to_the_recorded_dose():
    scan = ps.simulate_scan(**SCAN, noise=False, detector=Detector(background=2.5))
    mean = scan.patterns.read(EVERY).sum(axis=(1, 2)).mean()
    assert mean == pytest.approx(1e5 + 2.5 * 32**2, rel=1e-5)
    assert scan.metadata.nphotons == 1e5


def test_the_beamstop_hides_the_centre_and_is_marked_bad():
    scan = ps.simulate_scan(**SCAN, detector=Detector(beamstop=3))
    counts = scan.patterns.read(EVERY)
    assert scan.bad_pixels[16, 16]
    assert scan.bad_pixels[16, 19]
    assert not scan.bad_pixels[16, 20]
    assert scan.bad_pixels.sum() == 29
    assert counts[:, scan.bad_pixels].sum() == 0


def test_dead_and_hot_pixels_are_marked_bad_and_differ():
    detector = Detector(dead_fraction=0.05, hot_fraction=0.02, hot_counts=5000)
    scan = ps.simulate_scan(**SCAN, detector=detector)
    counts = scan.patterns.read(EVERY)
    assert scan.bad_pixels.sum() == round(0.05 * 1024) + round(0.02 * 1024)
    always = counts[:, scan.bad_pixels]
    assert np.sum(always.max(axis=0) == 0) == round(0.05 * 1024)
    assert np.sum(always.min(axis=0) > 4000) == round(0.02 * 1024)
    plain = patterns()
    good = ~scan.bad_pixels
    np.testing.assert_allclose(counts[:, good].mean(), plain[:, good].mean(), rtol=0.01)


@pytest.mark.parametrize(
    ("bits", "dtype"), [(8, np.uint8), (12, np.uint16), (16, np.uint16), (32, np.uint32)]
)
def test_counts_fit_the_counter(bits, dtype):
    counts = patterns(nphotons=1e6, detector=Detector(bit_depth=bits))
    assert counts.dtype == dtype
    full = patterns(nphotons=1e6)
    np.testing.assert_array_equal(counts, np.minimum(full, 2**bits - 1))


def test_saturation_cuts_noisy_and_expected_counts():
    for noise in (True, False):
        top = patterns(noise=noise, detector=Detector(saturation=100)).max()
        assert top == 100


def test_faults_are_the_same_for_the_same_seed_only():
    detector = Detector(dead_fraction=0.05)
    first, again, other = (
        ps.simulate_scan(**SCAN, detector=detector, seed=s).bad_pixels for s in (1, 1, 2)
    )
    np.testing.assert_array_equal(first, again)
    assert (first != other).any()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"background": -1}, "background=-1"),
        ({"point_spread": np.nan}, "point_spread=nan"),
        ({"dead_fraction": 0.7, "hot_fraction": 0.4}, "together more than 1"),
        ({"bit_depth": 33}, "bit_depth=33"),
        ({"bit_depth": 8, "saturation": 300}, "saturation=300 must be from 1 to 255"),
    ],
)
def test_impossible_detectors_are_refused(options, message):
    with pytest.raises(ConfigurationError, match=message):
        Detector(**options)
