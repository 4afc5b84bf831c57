"""Groupings of a store: the existing backend's draws, kept and found again by parameters."""

import json
import logging
from pathlib import Path

import numpy as np
import pytest

import ptychostream as ps
from ptychostream.datasets.grouping.parameters import GroupingParameters
from ptychostream.errors import ConfigurationError
from ptychostream.scan import ArrayPatterns, Scan

DATA = Path(__file__).parents[1] / "data" / "contract"
#: A store has a seed for each grouping, so draws that go on from a state are raw data's alone.
CASES = [
    case
    for case in json.loads((DATA / "grouping_cases.json").read_text())
    if case["kw"].get("seed") is not None
]


@pytest.fixture(scope="module")
def fixture():
    return dict(np.load(DATA / "grouping.npz"))


@pytest.fixture
def store(fixture, tmp_path):
    scan = Scan(
        name="fixture",
        patterns=ArrayPatterns(fixture["in_diff3d"]),
        measurement_domain="amplitude",
        positions=np.stack([fixture["in_xcoords"], fixture["in_ycoords"]], axis=1),
        probe=fixture["in_probeGuess"][None],
    )
    return ps.build_group_store(scan, tmp_path / "scan.zarr", progress=False)


def _options(case):
    names = {"nsamples": "num_groups", "sequential_sampling": "sequential", "K": "neighbor_count"}
    options = {names.get(name, name): value for name, value in case["kw"].items()}
    return options | {"gridsize": case["gridsize"], "policy": "upstream"}


@pytest.mark.parametrize("case", CASES, ids=lambda case: case["name"])
def test_a_store_draws_what_the_existing_backend_draws(store, fixture, case):
    before = np.random.get_state()
    if "error" in case:
        with pytest.raises(ValueError, match="groups"):
            store.groups(**_options(case))
        return
    groups = store.groups(**_options(case))
    expected = fixture[f"{case['name']}__nn_indices"]
    np.testing.assert_array_equal(groups.nn_indices, expected)
    assert groups.nn_indices.dtype == np.int64
    again = ps.open_group_store(store.path).groups(**_options(case))
    np.testing.assert_array_equal(again.nn_indices, expected)
    # The caller's global generator is left alone: a table that is found again draws nothing.
    np.testing.assert_array_equal(np.random.get_state()[1], before[1])


def test_all_but_the_draws_without_a_seed_are_tried():
    assert len(CASES) >= 12


VARIANTS = {
    "plain": {},
    "per position": {"groups_per_position": 3},
    "far": {"neighbor_function": "min_distance", "min_neighbor_distance": 3.0},
    "farther": {"neighbor_function": "min_distance", "min_neighbor_distance": 5.0},
    "not too far": {"neighbor_function": "min_distance", "max_neighbor_distance": 4.5},
    "quadrants": {"neighbor_function": "four_quadrant"},
    "sequential": {"sequential": True, "num_groups": 20},
    "drawn": {"num_groups": 20},
    "sub-sampled": {"n_subsample": 20},
    "oversampled": {"enable_oversampling": True, "num_groups": 200},
    "pool": {"enable_oversampling": True, "num_groups": 200, "neighbor_pool_size": 9},
    "upstream": {"policy": "upstream"},
    "witness": {"held_out": 1},
    "seed": {"seed": 1},
}


def test_each_grouping_is_kept_once_and_found_again_by_its_parameters(tiny_store, tmp_path):
    store = ps.build_group_store(tiny_store.scan(), tmp_path / "s.zarr", progress=False)
    made = {name: store.groups(2, 7, **options) for name, options in VARIANTS.items()}
    assert len(list((store.path / "groupings").iterdir())) == len(VARIANTS)
    for name, options in VARIANTS.items():
        found = ps.open_group_store(store.path).groups(2, 7, **options)
        np.testing.assert_array_equal(found.nn_indices, made[name].nn_indices)
    tables = {groups.nn_indices.tobytes() for groups in made.values()}
    assert len(tables) == len(VARIANTS)
    assert len(list((store.path / "groupings").iterdir())) == len(VARIANTS)
    lengths = {name: len(groups) for name, groups in made.items()}
    assert lengths["per position"] == 3 * 64
    assert lengths["sequential"] == lengths["drawn"] == lengths["sub-sampled"] == 20
    assert lengths["oversampled"] == lengths["pool"] == 200
    assert len(np.unique(made["sub-sampled"].nn_indices)) <= 20
    store.verify()


def test_keys_of_groupings_that_stores_hold_already_stay_the_same():
    old = Path(__file__).parents[1] / "data" / "store-1.0.zarr" / "groupings"
    (folder,) = old.iterdir()
    record = json.loads((folder / "grouping.json").read_text())
    parameters = record["parameters"]
    # Held-out neighbours had another name, which stores keep.
    parameters["held_out"] = parameters.pop("witnesses")
    assert GroupingParameters(**parameters).key() == folder.name


def test_a_store_draws_the_patterns_that_the_existing_backend_draws(store):
    np.random.seed(3)
    expected = np.sort(np.random.choice(60, 20, replace=False))
    groups = store.groups(1, n_subsample=20, seed=3)
    np.testing.assert_array_equal(groups.nn_indices.ravel(), expected)


def test_sub_sampling_draws_from_each_experiment(two_experiments):
    groups = two_experiments.groups(2, 6, n_subsample=12)
    assert np.bincount(two_experiments.experiment_id[groups.nn_indices[:, 0]]).tolist() == [12, 12]


def test_raw_data_over_a_store_take_the_groups_that_it_keeps(store):
    raw = ps.RawDataTorch.from_store(store)
    options = {"K": 6, "nsamples": 30, "gridsize": 2, "seed": 5}
    grouped = raw.generate_grouped_data(16, **options)
    (folder,) = (store.path / "groupings").iterdir()
    kept = store.groups(2, 6, num_groups=30, seed=5)
    np.testing.assert_array_equal(grouped["nn_indices"], kept.nn_indices)
    assert [folder] == list((store.path / "groupings").iterdir())
    elsewhere = ps.RawDataTorch.from_scan(store.scan()).generate_grouped_data(16, **options)
    np.testing.assert_array_equal(grouped["nn_indices"], elsewhere["nn_indices"])


def test_more_groups_than_positions_are_said(tiny_store, caplog):
    with caplog.at_level(logging.WARNING):
        assert len(tiny_store.groups(2, 6, num_groups=100, seed=9)) == 64
    assert "100 groups asked for, but there are 64 positions" in caplog.text


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"neighbor_function": "farthest"}, "'nearest', 'min_distance', 'four_quadrant'"),
        ({"policy": "theirs"}, "'default', 'upstream'"),
        ({"neighbor_pool_size": 8}, "does nothing without enable_oversampling"),
        ({"min_neighbor_distance": 2.0}, "set it to 'min_distance'"),
        (
            {
                "neighbor_function": "min_distance",
                "min_neighbor_distance": 5,
                "max_neighbor_distance": 2,
            },
            "minimum < maximum",
        ),
        ({"neighbor_function": "four_quadrant", "gridsize": 3}, "set gridsize to 2"),
        ({"policy": "upstream", "groups_per_position": 2}, "does not go together"),
        ({"policy": "upstream", "neighbor_function": "four_quadrant"}, "does not go together"),
        ({"enable_oversampling": True, "groups_per_position": 2}, "does not go together"),
        ({"n_subsample": 0}, "n_subsample=0 must be at least 1"),
        ({"groups_per_position": 0}, "groups_per_position=0 must be at least 1"),
        ({"gridsize": 1.5}, "gridsize=1.5 must be at least 1, and whole"),
        ({"seed": -3}, "seed=-3 must not be negative"),
    ],
    ids=str,
)
def test_what_means_nothing_is_refused(tiny_store, options, message):
    with pytest.raises(ConfigurationError, match=message):
        tiny_store.groups(**({"gridsize": 2, "neighbor_count": 7} | options))
