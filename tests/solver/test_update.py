import numpy as np
import pytest
import torch
from tiny import dense_shift

import ptychostream as ps
from ptychostream.geometry import ObjectGrid
from ptychostream.solver.update import ObjectRefinement


def _scan():
    return ps.simulate_scan(
        object="bars_and_ellipses",
        probe="gaussian",
        num_positions=196,
        N=32,
        step=2.5,
        noise=False,
        seed=4,
    )


def _error(obj, scan):
    low, high = scan.positions.min(axis=0).astype(int) + 3, scan.positions.max(axis=0).astype(int)
    inside = (slice(low[1], high[1]), slice(low[0], high[0]))
    a, b = obj[inside], scan.object_guess[inside]
    scale = np.vdot(a, b) / np.vdot(a, a)
    return np.sqrt((np.abs(scale * a - b) ** 2).mean())


def test_passes_bring_the_object_to_the_truth():
    scan = _scan()
    amplitude = torch.tensor(np.sqrt(scan.patterns.read(np.arange(196))))
    shape = scan.object_guess.shape
    refinement = ObjectRefinement(
        np.ones(shape, np.complex64),
        ObjectGrid(*shape),
        torch.tensor(scan.probe),
        torch.ones(32, 32, dtype=torch.bool),
    )
    errors = [_error(np.ones(shape), scan)]
    rng = np.random.default_rng(0)
    for _ in range(12):
        for rows in np.array_split(rng.permutation(196), 14):
            refinement.update(amplitude[rows], scan.positions[rows])
        errors.append(_error(refinement.result(), scan))
    assert errors[1] < 0.8 * errors[0]
    assert errors[-1] < 0.12 * errors[0]


def test_the_true_object_stays_and_unknown_pixels_stay_unknown():
    scan = _scan()
    amplitude = torch.tensor(np.sqrt(scan.patterns.read(np.arange(196))))
    known = scan.object_guess.copy()
    known[:, :5] = 0
    refinement = ObjectRefinement(
        known,
        ObjectGrid(*known.shape),
        torch.tensor(scan.probe),
        torch.ones(32, 32, dtype=torch.bool),
    )
    before = _error(known, scan)
    refinement.update(amplitude[90:106], scan.positions[90:106])
    refined = refinement.result()
    assert _error(refined, scan) < max(1.5 * before, 2e-3)
    assert (refined[:, :5] == 0).all()


def _exact_experiment():
    """Object, probe, positions and amplitudes of the refinement's own physics, to rounding."""
    rng = np.random.default_rng(6)
    obj = 1 + 0.3 * (rng.uniform(size=(44, 40)) + 1j * rng.uniform(size=(44, 40)))
    y, x = np.mgrid[-8:8, -8:8]
    probe = np.exp(-((x - 1) ** 2 + y**2) / 18 + 0.3j * x - 0.02j * y**2)
    positions = rng.uniform(12, 28, (60, 2))
    corners = np.rint(positions - 8)
    waves = [
        obj[int(top) : int(top) + 16, int(left) : int(left) + 16] * dense_shift(probe, rest)
        for (left, top), rest in zip(corners, positions - 8 - corners, strict=True)
    ]
    amplitude = np.abs(np.fft.fftshift(np.fft.fft2(waves, norm="ortho"), axes=(-2, -1)))
    return obj, probe, positions, amplitude


def _refine(obj, probe, positions, amplitude, good, *, passes=10, with_probe=False):
    refinement = ObjectRefinement(
        obj.astype(np.complex64),
        ObjectGrid(*obj.shape),
        torch.tensor(probe[None], dtype=torch.complex64),
        torch.tensor(good),
    )
    for _ in range(passes):
        for rows in np.split(np.arange(len(positions)), range(12, len(positions), 12)):
            refinement.update(
                torch.tensor(amplitude[rows], dtype=torch.float32),
                positions[rows],
                with_probe=with_probe,
            )
    return refinement.result(), refinement.probe[0].numpy()


@pytest.mark.parametrize("held", [0.0, 1e4])
@pytest.mark.parametrize("centre", [8, 4])
def test_bad_pixels_pull_at_neither_object_nor_probe_whatever_they_hold(centre, held):
    obj, probe, positions, amplitude = _exact_experiment()
    good = np.ones((16, 16), bool)
    good[centre - 1 : centre + 2, 7:10] = False
    amplitude[:, ~good] = held
    found, beam = _refine(obj, probe, positions, amplitude, good, with_probe=True)
    assert np.abs(found - obj).max() < 1e-4
    assert np.abs(beam - probe).max() < 1e-4


def test_the_true_object_and_probe_stay_at_positions_between_pixels():
    obj, probe, positions, amplitude = _exact_experiment()
    good = np.ones((16, 16), bool)
    found, beam = _refine(obj, probe, positions, amplitude, good, with_probe=True)
    assert np.abs(found - obj).max() < 1e-4
    assert np.abs(beam - probe).max() < 1e-4


def test_a_probe_is_corrected_alike_wherever_between_pixels_it_lies():
    _, probe, _, _ = _exact_experiment()
    flat, good = np.ones((40, 40)), np.ones((16, 16), bool)
    # On a flat object no shift of the beam changes the pattern.
    amplitude = np.abs(np.fft.fftshift(np.fft.fft2(probe, norm="ortho")))[None]
    guess = probe * (1 + 0.2 * np.linspace(-1, 1, 16))
    beams = [
        _refine(flat, guess, np.array([at]), amplitude, good, passes=1, with_probe=True)[1]
        for at in ((20.0, 20.0), (20.4, 19.7))
    ]
    assert np.abs(beams[0] - guess).max() > 0.01
    np.testing.assert_allclose(beams[1], beams[0], atol=1e-5)
