import numpy as np
import pytest
import scipy.stats
import torch

import ptychostream as ps
from ptychostream.errors import ConfigurationError
from ptychostream.geometry import patch_corners
from ptychostream.physics import exit_wave, fourier_shift, intensity, propagate_far_field
from ptychostream.simulation import Detector
from ptychostream.simulation.objects import OBJECTS, make_object
from ptychostream.simulation.probes import PROBES
from ptychostream.simulation.scan_patterns import SCAN_PATTERNS


@pytest.mark.parametrize("probe", PROBES)
@pytest.mark.parametrize("nphotons", [1e3, 1e7])
def test_mean_counts_equal_the_asked_dose(probe, nphotons):
    options = {"num_positions": 100, "N": 32, "probe": probe, "nphotons": nphotons}
    exact = ps.simulate_scan(**options, noise=False)
    mean = exact.patterns.read(np.arange(100)).sum(axis=(1, 2)).mean()
    assert mean == pytest.approx(nphotons, rel=1e-3)
    noisy = ps.simulate_scan(**options)
    counts = noisy.patterns.read(np.arange(100)).sum(axis=(1, 2))
    assert abs(counts.mean() - nphotons) < 3 * np.sqrt(nphotons / 100)


def test_patterns_are_the_fourier_sum_of_probe_times_object():
    scan = ps.simulate_scan(num_positions=9, N=16, noise=False, seed=2)
    row = 4
    x, y = scan.positions[row]
    left, top = int(np.floor(x)) - 8, int(np.floor(y)) - 8
    k = np.fft.fftfreq(16)
    ramp = np.exp(-2j * np.pi * (k[:, None] * (y % 1) + k * (x % 1)))
    probe = np.fft.ifft2(np.fft.fft2(scan.probe[0].astype(complex)) * ramp)
    wave = probe * scan.object_guess[top : top + 16, left : left + 16]
    expected = np.abs(np.fft.fftshift(np.fft.fft2(wave, norm="ortho"))) ** 2
    pattern = scan.patterns.read(np.array([row]))[0]
    np.testing.assert_allclose(pattern, expected, rtol=1e-3, atol=1e-3 * expected.max())


def test_each_pattern_has_its_own_noise_whatever_is_read_with_it():
    patterns = ps.simulate_scan(num_positions=100, N=16, seed=5).patterns
    every = np.concatenate(list(patterns.blocks(17)))
    rows = np.array([99, 3, 3, 50])
    np.testing.assert_array_equal(patterns.read(rows), every[rows])
    assert every.dtype == np.uint32


def test_the_seed_decides_everything():
    first, again, other = (ps.simulate_scan(num_positions=16, N=16, seed=s) for s in (1, 1, 2))
    np.testing.assert_array_equal(first.positions, again.positions)
    np.testing.assert_array_equal(
        first.patterns.read(np.arange(16)), again.patterns.read(np.arange(16))
    )
    assert (first.positions != other.positions).any()
    assert first.object_guess.shape != other.object_guess.shape or (
        (first.object_guess != other.object_guess).any()
    )


def test_mode_powers_add_up():
    probe = ps.simulate_scan(num_positions=9, N=16, probe="gaussian").probe[0]
    modes = np.stack([probe, 0.5j * np.roll(probe, 2, axis=0)])
    options = {"num_positions": 9, "N": 16, "noise": False}
    both = ps.simulate_scan(probe=modes, **options)
    alone = []
    for mode in both.probe:
        single = ps.simulate_scan(probe=mode, **options)
        factor = np.sum(np.abs(mode) ** 2) / np.sum(np.abs(single.probe) ** 2)
        alone.append(factor * single.patterns.read(np.arange(9)))
    np.testing.assert_allclose(
        both.patterns.read(np.arange(9)), sum(alone), rtol=2e-3, atol=1e-3 * alone[0].max()
    )


@pytest.mark.parametrize("name", OBJECTS)
def test_objects_transmit_at_most_everything(name):
    obj = make_object(name, (90, 70), np.random.default_rng(0))
    assert obj.shape == (90, 70)
    assert obj.dtype == np.complex64
    assert np.abs(obj).max() <= 1 + 1e-5
    assert np.abs(obj).std() > 0.01
    assert np.angle(obj).std() > 0.05
    again = make_object(name, (90, 70), np.random.default_rng(0))
    np.testing.assert_array_equal(obj, again)


@pytest.mark.parametrize("name", SCAN_PATTERNS)
def test_scan_patterns_have_the_asked_distance(name):
    positions = SCAN_PATTERNS[name](400, 5.0, np.random.default_rng(0))
    assert positions.shape == (400, 2)
    assert positions.min() >= 0
    area = np.ptp(positions, axis=0).prod()
    assert area / 400 == pytest.approx(25, rel=0.3)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"object": "cat"}, "no object 'cat'; choose one of bars"),
        ({"probe": "laser"}, "no probe 'laser'"),
        ({"scan_pattern": "zigzag"}, "no scan pattern 'zigzag'"),
        ({"nphotons": 0}, "nphotons=0"),
        ({"N": 17}, "N=17"),
        ({"seed": -1}, "seed=-1 must be a whole number"),
        ({"seed": 0.5}, "seed=0.5 must be a whole number"),
        ({"nphotons": 1e10}, r"nphotons=1e\+10 .* more than 4\.29497e\+09.*saturation"),
        ({"device": "abacus"}, "device='abacus' can't be used"),
        ({"object": np.ones((20, 20), np.complex64)}, r"\(20, 20\) px but the scan needs"),
        ({"probe": np.ones((8, 8), np.complex64)}, r"\(8, 8\) px but N=16"),
    ],
)
def test_impossible_scans_are_refused(options, message):
    with pytest.raises(ConfigurationError, match=message):
        ps.simulate_scan(**({"num_positions": 9, "N": 16} | options))


def test_patterns_are_those_of_the_models_physics():
    scan = ps.simulate_scan(num_positions=9, N=32, noise=False, mode_powers=[3, 2, 1], seed=4)
    corners, fractions = patch_corners(scan.positions, 32)
    patches = np.stack([scan.object_guess[r : r + 32, c : c + 32] for r, c in corners])
    probes = fourier_shift(torch.as_tensor(scan.probe), torch.as_tensor(fractions)[:, None])
    expected = intensity(propagate_far_field(exit_wave(torch.as_tensor(patches), probes)))
    np.testing.assert_allclose(
        scan.patterns.read(np.arange(9)), expected, rtol=1e-3, atol=1e-5 * float(expected.max())
    )


def test_energy_is_conserved_between_object_and_detector():
    obj = np.full((80, 80), 0.5 * np.exp(0.3j), np.complex64)
    scan = ps.simulate_scan(object=obj, num_positions=16, N=32, noise=False, nphotons=1e5)
    energy = scan.patterns.read(np.arange(16)).sum(axis=(1, 2))
    np.testing.assert_allclose(energy, 1e5, rtol=1e-5)
    assert 0.25 * np.sum(np.abs(scan.probe) ** 2) == pytest.approx(1e5, rel=1e-5)


@pytest.mark.parametrize("nphotons", [4e9, 1e17])
def test_huge_doses_are_counted_or_cut_but_never_wrap(nphotons):
    detector = Detector() if nphotons < 2**32 else Detector(saturation=10**9)
    options = {"num_positions": 4, "N": 16, "probe": "disk", "nphotons": nphotons}
    scan = ps.simulate_scan(**options, detector=detector)
    exact = ps.simulate_scan(**options, detector=detector, noise=False).patterns.read(np.arange(4))
    counts = scan.patterns.read(np.arange(4))
    assert counts.dtype == np.uint32
    difference = np.abs(counts.astype(float) - exact) / np.sqrt(exact + 1)
    # A float32 holds seven digits: of 1e9 counts it knows some hundred.
    assert np.all(difference < 6 + 1e-7 * np.sqrt(exact))
    assert (counts.max() == 10**9) == (nphotons > 2**32)


def test_patterns_are_the_same_on_any_number_of_threads(monkeypatch):
    patterns = ps.simulate_scan(num_positions=100, N=16, seed=5).patterns
    found = []
    for threads in (1, 4):
        monkeypatch.setattr("os.cpu_count", lambda threads=threads: threads)
        found.append(patterns.read(np.arange(100)))
    np.testing.assert_array_equal(*found)


def test_counts_are_poisson_distributed():
    options = {
        "object": np.ones((40, 40), np.complex64),
        "probe": "disk",
        "scan_pattern": np.full((1500, 2), 20.0),
        "N": 16,
        "nphotons": 2000,
    }
    exact, noisy = (ps.simulate_scan(**options, noise=noise) for noise in (False, True))
    mean = exact.patterns.read(np.array([0]))[0].astype(float)
    counts = noisy.patterns.read(np.arange(1500))
    for at in [(8, 8), (8, 7), (8, 6), (0, 0)]:
        edges = np.unique(scipy.stats.poisson.ppf(np.linspace(0.1, 0.9, 9), mean[at]))
        expected = np.diff(np.concatenate([[0], scipy.stats.poisson.cdf(edges, mean[at]), [1]]))
        found = np.bincount(np.searchsorted(edges, counts[:, *at]), minlength=len(expected))
        assert scipy.stats.chisquare(found, 1500 * expected).pvalue > 1e-3


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="there is no CUDA device")
def test_a_gpu_gives_the_same_patterns():
    cpu, gpu = (
        ps.simulate_scan(num_positions=300, N=32, noise=False, device=d) for d in ("cpu", "cuda")
    )
    rows = np.arange(300)
    expected = cpu.patterns.read(rows)
    found = gpu.patterns.read(rows)
    np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-7 * float(expected.max()))
