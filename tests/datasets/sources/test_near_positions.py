"""Which positions have another one nearby."""

import numpy as np
import pytest

from ptychostream.datasets.sources.near_positions import as_points, has_near


@pytest.mark.parametrize("spread", [1.0, 30.0, 1e4])
def test_who_shares_a_cell_has_another_within_the_distance(spread):
    positions = np.random.default_rng(0).normal(size=(300, 2)) * spread
    apart = np.linalg.norm(positions[:, None] - positions, axis=-1)
    np.fill_diagonal(apart, np.inf)
    near = has_near(positions, 10.0)
    assert (apart[near].min(axis=1) <= 10.0).all() if near.any() else spread == 1e4
    assert near.all() == (spread == 1.0)


def test_repeated_positions_have_each_other():
    assert has_near(np.array([[0.0, 0.0], [50.0, 3.0], [50.0, 3.0]]), 1.0).tolist() == [0, 1, 1]


def test_points_are_sorted_as_rows_are():
    positions = np.random.default_rng(1).integers(-3, 3, (50, 2)).astype(float)
    rows = np.unique(positions, axis=0)
    assert np.array_equal(np.unique(as_points(positions)), as_points(rows))
