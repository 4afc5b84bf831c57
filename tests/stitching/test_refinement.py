import numpy as np
import torch

import ptychostream as ps
from ptychostream.geometry import ObjectGrid
from ptychostream.stitching import ObjectRefinement


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
