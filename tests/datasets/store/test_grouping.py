import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ptychostream.datasets.store.grouping import choose_seeds, nearest_neighbor_groups
from ptychostream.errors import DataContractError


@given(
    seed=st.integers(0, 2**31),
    number=st.integers(9, 40),
    gridsize=st.sampled_from([1, 2, 3]),
    extra=st.integers(0, 4),
    turns=st.integers(1, 3),
    coincide=st.booleans(),
)
@settings(max_examples=60, deadline=None)
def test_groups_begin_with_their_seed_and_hold_near_neighbours(
    seed, number, gridsize, extra, turns, coincide
):
    rng = np.random.default_rng(seed)
    positions = rng.uniform(0, 50, (number, 2))
    if coincide:
        positions[1] = positions[0]
    size = gridsize**2
    count = max(size - 1, 1) + extra
    seeds = np.arange(number)
    groups = nearest_neighbor_groups(
        positions, seeds, rng, group_size=size, neighbor_count=count, groups_per_position=turns
    )
    assert groups.shape == (number * turns, size)
    assert (groups[:, 0] == np.repeat(seeds, turns)).all()
    assert all(len(set(group)) == size for group in groups.tolist())
    # Brute force: no member is farther than the K-th neighbour.
    distance = np.linalg.norm(positions[:, None] - positions, axis=-1)
    limit = np.sort(distance, axis=1)[:, min(count, number - 1)]
    for group in groups:
        assert distance[group[0], group].max() <= limit[group[0]] + 1e-9


def test_all_neighbours_are_drawn_equally_often():
    positions = np.stack(np.meshgrid(np.arange(3.0), np.arange(3.0)), axis=-1).reshape(-1, 2)
    groups = nearest_neighbor_groups(
        positions,
        np.array([4]),
        np.random.default_rng(0),
        group_size=4,
        neighbor_count=8,
        groups_per_position=4000,
    )
    counts = np.bincount(groups[:, 1:].ravel(), minlength=9)
    assert counts[4] == 0
    expected = 4000 * 3 / 8
    assert np.abs(np.delete(counts, 4) - expected).max() < 5 * np.sqrt(expected)


def test_seeds_are_all_the_first_or_a_draw():
    rng = np.random.default_rng(0)
    assert choose_seeds(5, None, rng, sequential=False).tolist() == [0, 1, 2, 3, 4]
    assert choose_seeds(5, 3, rng, sequential=True).tolist() == [0, 1, 2]
    drawn = choose_seeds(100, 30, rng, sequential=False)
    assert len(set(drawn.tolist())) == 30
    assert (np.diff(drawn) > 0).all()


@pytest.mark.parametrize(("number", "count"), [(3, 7), (20, 2)])
def test_too_few_positions_or_neighbours_are_refused(number, count):
    positions = np.random.default_rng(0).uniform(0, 9, (number, 2))
    with pytest.raises(DataContractError, match=f"{number}|{count}"):
        nearest_neighbor_groups(
            positions,
            np.arange(number),
            np.random.default_rng(0),
            group_size=4,
            neighbor_count=count,
        )
