"""Phases of patches, against the dense least-squares solution."""

import numpy as np
import pytest

from ptychostream.stitching.phase_solver import solve_phases


def _pairs(number, rng):
    """A chain, so that all are connected, and as many random pairs again."""
    first = np.concatenate([np.arange(number - 1), rng.integers(0, number, number)])
    second = np.concatenate([np.arange(1, number), rng.integers(0, number, number)])
    return first[first != second], second[first != second]


@pytest.mark.parametrize("positions", ["area", "line", "point"])
@pytest.mark.parametrize("number", [2, 33, 200])
def test_differences_are_explained_as_the_dense_solution_does(number, positions):
    rng = np.random.default_rng(number)
    places = rng.uniform(0, 100, (number, 2)) * {"area": 1, "line": [1, 0], "point": 0}[positions]
    first, second = _pairs(number, rng)
    # Small enough that no difference wraps.
    asked = rng.uniform(-0.3, 0.3, len(first))
    weight = rng.uniform(0.1, 2, len(first))
    phases = solve_phases(places, first, second, weight * np.exp(1j * asked))
    rows = np.zeros((len(first), number))
    rows[np.arange(len(first)), second] = 1
    rows[np.arange(len(first)), first] = -1
    root = np.sqrt(weight)
    expected = np.linalg.lstsq(rows * root[:, None], asked * root, rcond=None)[0]
    np.testing.assert_allclose(phases, expected - expected.mean(), atol=1e-6)


def test_a_ramp_that_wraps_many_times_is_followed():
    x, y = np.meshgrid(np.arange(30.0), np.arange(20.0))
    places = np.stack([x.ravel(), y.ravel()], axis=1)
    ramp = 0.9 * places[:, 0] - 0.5 * places[:, 1]
    number = len(places)
    pairs = [(k, k + 1) for k in range(number) if (k + 1) % 30]
    pairs += [(k, k + 30) for k in range(number - 30)]
    first, second = np.array(pairs).T
    overlap = np.exp(1j * (ramp[second] - ramp[first]))
    phases = solve_phases(places, first, second, overlap)
    # The anchor pulls a ramp that turns nine times towards zero, by a little.
    np.testing.assert_allclose(phases, ramp - ramp.mean(), rtol=0.02, atol=0.05)


def test_without_overlap_nothing_moves():
    pair = np.array([0]), np.array([1])
    assert solve_phases(np.zeros((2, 2)), *pair, np.array([0j])).tolist() == [0, 0]
