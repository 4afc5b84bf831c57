import itertools
import math
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import ptychostream as ps
from ptychostream.datasets.grouping.combinations import combination_groups, combinations_of_rank
from ptychostream.datasets.grouping.distance import min_distance_groups
from ptychostream.datasets.grouping.nearest import choose_centres, nearest_neighbor_groups
from ptychostream.datasets.grouping.quadrants import four_quadrant_groups
from ptychostream.datasets.store.format import GROUPINGS
from ptychostream.errors import DataContractError

DATA = Path(__file__).parents[2] / "data" / "contract"


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


def test_seeds_are_all_the_first_or_a_draw(caplog):
    rng = np.random.default_rng(0)
    assert choose_centres(5, None, rng, sequential=False).tolist() == [0, 1, 2, 3, 4]
    assert choose_centres(5, 3, rng, sequential=True).tolist() == [0, 1, 2]
    drawn = choose_centres(100, 30, rng, sequential=False)
    assert len(set(drawn.tolist())) == 30
    assert (np.diff(drawn) > 0).all()
    assert not caplog.records
    assert len(choose_centres(5, 7, rng, sequential=False)) == 5
    assert "7 groups asked for, but there are 5 positions" in caplog.text


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


def _scan(seed, number, *, coincide=False):
    positions = np.random.default_rng(seed).uniform(0, 50, (number, 2))
    if coincide:
        positions[1] = positions[0]
    return positions


@given(
    seed=st.integers(0, 2**31),
    number=st.integers(8, 60),
    low=st.floats(0, 12),
    width=st.none() | st.floats(1, 30),
    turns=st.integers(1, 3),
    extra=st.integers(0, 4),
)
@settings(max_examples=60, deadline=None)
def test_members_are_the_nearest_between_two_distances(seed, number, low, width, turns, extra):
    positions, count = _scan(seed, number, coincide=True), 3 + extra
    high = None if width is None else low + width
    distance = np.linalg.norm(positions[:, None] - positions, axis=-1)
    fits = (distance >= low) & (distance <= (np.inf if high is None else high))
    np.fill_diagonal(fits, False)
    able = np.flatnonzero(fits.sum(axis=1) >= 3)

    def draw():
        return min_distance_groups(
            positions,
            np.arange(number),
            np.random.default_rng(seed),
            group_size=4,
            neighbor_count=count,
            groups_per_position=turns,
            min_distance=low,
            max_distance=high,
        )

    if not len(able):
        with pytest.raises(DataContractError, match="widen the distances"):
            draw()
        return
    groups = draw()
    np.testing.assert_array_equal(groups[:, 0], np.repeat(able, turns))
    assert all(len(set(group)) == 4 for group in groups.tolist())
    for group in groups:
        ours = distance[group[0], group[1:]]
        limit = np.sort(distance[group[0], fits[group[0]]])[:count][-1]
        assert (ours >= low).all()
        assert (ours <= limit + 1e-9).all()


def test_a_search_goes_on_until_enough_neighbours_are_far_enough():
    # 400 positions are nearer than 20 px, so the first searches find nothing.
    x, y = np.meshgrid(np.arange(40.0), np.arange(40.0))
    positions = np.stack([x.ravel(), y.ravel()], axis=1)
    groups = min_distance_groups(
        positions,
        np.array([820]),
        np.random.default_rng(0),
        group_size=4,
        neighbor_count=3,
        min_distance=20,
    )
    distance = np.linalg.norm(positions[groups[0, 1:]] - positions[820], axis=1)
    expected = np.linalg.norm(positions - positions[820], axis=1)
    np.testing.assert_allclose(np.sort(distance), np.sort(expected[expected >= 20])[:3])


def test_seeds_without_such_neighbours_are_said_to_be_left_out(caplog):
    positions = np.concatenate([_scan(0, 30), [[500.0, 500.0]]])
    groups = min_distance_groups(
        positions,
        np.arange(31),
        np.random.default_rng(0),
        group_size=4,
        neighbor_count=6,
        max_distance=100,
    )
    assert 30 not in groups
    assert "1 of 31 positions are no centre of a group" in caplog.text


def _lie_in_their_quadrants(positions, seeds, groups):
    """Each member in its closed quadrant: -x +y, +x +y, -x -y, +x -y; the seed lies in all."""
    offsets = positions[groups] - positions[seeds][:, None]
    return (offsets * np.array([[-1, 1], [1, 1], [-1, -1], [1, -1]]) >= 0).all(axis=-1)


@given(
    seed=st.integers(0, 2**31),
    number=st.integers(6, 40),
    count=st.integers(4, 12),
    turns=st.integers(1, 3),
    held_out=st.integers(0, 1),
    coincide=st.booleans(),
)
@settings(max_examples=60, deadline=None)
def test_groups_of_four_have_one_member_in_each_quadrant(
    seed, number, count, turns, held_out, coincide
):
    positions = _scan(seed, number, coincide=coincide)
    seeds = np.arange(number)
    groups = four_quadrant_groups(
        positions,
        seeds,
        np.random.default_rng(seed),
        neighbor_count=count,
        groups_per_position=turns,
        held_out=held_out,
    )
    assert groups.shape == (number * turns, 4 + held_out)
    assert all(len(set(group)) == 4 + held_out for group in groups.tolist())
    of = np.repeat(seeds, turns)
    assert (groups[:, :4] == of[:, None]).any(axis=1).all()
    # A member lies elsewhere only where its quadrant has none of the K nearest, nor the seed.
    astray = np.argwhere(~_lie_in_their_quadrants(positions, of, groups[:, :4]))
    distance = np.linalg.norm(positions[:, None] - positions, axis=-1)
    for row, column in astray:
        near = np.argsort(distance[of[row]], kind="stable")[: count + 1]
        near = near[near != of[row]][:count]
        there = _lie_in_their_quadrants(
            positions, np.full(len(near), of[row]), np.repeat(near[:, None], 4, axis=1)
        )[:, column]
        axes = (positions[near] == positions[of[row]]).any(axis=1)
        assert not (there & ~axes).any()


def test_quadrants_come_in_the_order_that_the_existing_backend_has():
    with np.load(DATA / "quadrants.npz") as fixture:
        positions = np.stack([fixture["x"], fixture["y"]], axis=1)
        seeds, theirs = fixture["centre"], fixture["nn_indices"]
    assert _lie_in_their_quadrants(positions, seeds, theirs).all()
    ours = four_quadrant_groups(positions, seeds, np.random.default_rng(0), neighbor_count=16)
    assert _lie_in_their_quadrants(positions, seeds, ours).all()
    # Theirs holds a position twice at times, and not always its seed.
    assert any(len(set(group)) < 4 for group in theirs.tolist())
    assert all(len(set(group)) == 4 for group in ours.tolist())


def test_the_seed_stands_for_every_quadrant_alike_inside_a_scan():
    x, y = np.meshgrid(np.arange(5.0), np.arange(5.0))
    positions = np.stack([x.ravel(), y.ravel()], axis=1)
    groups = four_quadrant_groups(
        positions,
        np.array([12]),
        np.random.default_rng(0),
        neighbor_count=8,
        groups_per_position=4000,
    )
    counts = (groups == 12).sum(axis=0)
    assert np.abs(counts - 1000).max() < 150


@given(pool=st.integers(1, 9), size=st.integers(1, 4))
@settings(max_examples=40, deadline=None)
def test_every_number_is_another_combination(pool, size):
    total = math.comb(pool, size)
    listed = combinations_of_rank(np.arange(total), pool, size)
    assert {tuple(sorted(row)) for row in listed.tolist()} == set(
        itertools.combinations(range(pool), size)
    )


def test_large_pools_are_combined_without_listing_them():
    # 40 neighbours have 76,904,685 combinations of 8.
    groups = combination_groups(
        _scan(0, 60), 500, np.random.default_rng(0), group_size=9, pool_size=40
    )
    assert groups.shape == (500, 9)
    assert all(len(set(group)) == 9 for group in groups.tolist())
    with pytest.raises(DataContractError, match="can be numbered"):
        combination_groups(_scan(0, 900), 5, np.random.default_rng(0), group_size=16, pool_size=899)


def test_groupings_that_a_store_has_outgrown_are_removed(tiny_scan, tmp_path):
    path = tmp_path / "s.zarr"
    ps.build_group_store(tiny_scan.select(np.arange(30)), path, growing=True).groups(2, 6)
    for start in (30, 40, 50):
        before = ps.open_group_store(path)
        store = ps.append_patterns(path, tiny_scan.select(np.arange(start, start + 10)))
        wanted = store.groups(2, 6).nn_indices
        np.testing.assert_array_equal(ps.open_group_store(path).groups(2, 6).nn_indices, wanted)
        # Who still sees the store as it was computes them again.
        assert before.groups(2, 6).nn_indices.max() < start
    kept = [folder.name for folder in (path / GROUPINGS).iterdir()]
    assert len([name for name in kept if name.endswith("-60")]) == 1


def test_numbers_may_be_numpy_s_own(tiny_store):
    plain = tiny_store.groups(2, 6, num_groups=5, seed=1)
    scalars = tiny_store.groups(np.int64(2), np.int32(6), num_groups=np.int64(5), seed=np.int64(1))
    assert scalars.parameters == plain.parameters
    np.testing.assert_array_equal(scalars.nn_indices, plain.nn_indices)
