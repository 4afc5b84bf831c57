import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from ptychostream.datasets.store.plan import hilbert_order


def test_neighbours_along_the_curve_are_neighbours_in_space():
    x, y = np.meshgrid(np.arange(16.0), np.arange(16.0))
    grid = np.stack([x.ravel(), y.ravel()], axis=1)
    walk = grid[hilbert_order(grid)]
    steps = np.abs(np.diff(walk, axis=0)).sum(axis=1)
    # The cells of a 16 x 16 grid do not match the curve's exactly: nearly every step is one.
    assert np.mean(steps == 1) > 0.95
    assert steps.max() <= 3


@given(seed=st.integers(0, 2**31), number=st.integers(1, 60))
@settings(max_examples=30, deadline=None)
def test_order_is_a_permutation(seed, number):
    positions = np.random.default_rng(seed).normal(0, 100, (number, 2))
    assert sorted(hilbert_order(positions)) == list(range(number))


def test_equal_positions_keep_their_order():
    assert hilbert_order(np.ones((5, 2))).tolist() == [0, 1, 2, 3, 4]
