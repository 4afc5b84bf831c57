"""A reconstruction that follows a scan while it is measured."""

import threading
import time
from dataclasses import replace

import numpy as np
import pytest
import torch
from test_reconstruct import _untrained

import ptychostream as ps
from ptychostream.datasets.store import finish_group_store
from ptychostream.errors import ConfigurationError
from ptychostream.evaluation import evaluate_object
from ptychostream.geometry import ObjectGrid
from ptychostream.reconstruction.follow import LiveObject, Pace
from ptychostream.scan import ArrayPatterns
from ptychostream.stitching import PatchAccumulator


@pytest.fixture(scope="module")
def whole():
    scan = ps.simulate_scan(
        object="siemens_star", probe="gaussian", num_positions=225, N=32, step=2.5, seed=3
    )
    return replace(scan, patterns=ArrayPatterns(scan.patterns.read(np.arange(225))))


@pytest.mark.parametrize("gridsize", [1, 2])
def test_the_last_object_of_a_followed_scan_is_that_of_the_finished_store(
    whole, gridsize, tmp_path
):
    path = tmp_path / "s.zarr"
    store = ps.build_group_store(whole.select(np.arange(45)), path, growing=True)
    bundle = _untrained(store, gridsize, 2)

    def measure():
        for start in range(45, 225, 45):
            time.sleep(0.5)
            ps.append_patterns(path, whole.select(np.arange(start, start + 45)))
        finish_group_store(path)

    thread = threading.Thread(target=measure)
    thread.start()
    options = {"passes": 1, "checks_fit": False}
    results = list(ps.reconstruct(bundle, store, follow=True, interval_s=0.05, **options))
    thread.join()
    *live, last = results
    assert live
    assert all(result.is_partial for result in live)
    assert not last.is_partial
    seen = [len(result.positions) for result in live]
    assert seen == sorted(seen)
    offline = ps.reconstruct(bundle, ps.open_group_store(path), **options)
    np.testing.assert_allclose(last.object, offline.object, atol=1e-5)
    np.testing.assert_array_equal(last.coverage, offline.coverage)


def test_the_object_so_far_is_the_object(whole, tmp_path):
    path = tmp_path / "s.zarr"
    store = ps.build_group_store(whole.select(np.arange(75)), path, growing=True)
    following = ps.reconstruct(_untrained(store, 1), store, follow=True, interval_s=0.05)
    first = next(following)
    assert len(first.positions) == first.num_patches == 75
    for start in (75, 150):
        ps.append_patterns(path, whole.select(np.arange(start, start + 75)))
        latest = next(following)
    assert latest.num_patches == 225
    following.close()
    offline = ps.reconstruct(_untrained(store, 1), ps.open_group_store(path), passes=0)
    np.testing.assert_array_equal(latest.coverage, offline.coverage)
    true = whole.object_guess
    scores = [
        evaluate_object(r.object, true, r.coverage, register=False).metrics["phase_correlation"]
        for r in (latest, offline)
    ]
    assert scores[0] > scores[1] - 0.1


def test_the_grid_grows_with_a_scan_whose_object_is_unknown(whole, tmp_path):
    path = tmp_path / "s.zarr"
    blind = replace(whole, object_guess=None, positions=whole.positions - 30)
    order = np.argsort(blind.positions @ [-1.0, -1.0])
    blind = blind.select(order)
    store = ps.build_group_store(blind.select(np.arange(100)), path, growing=True)
    following = ps.reconstruct(_untrained(store, 1, 2), store, follow=True, interval_s=0.05)
    first = next(following)
    ps.append_patterns(path, blind.select(np.arange(100, 225)))
    second = next(following)
    following.close()
    assert second.origin < first.origin
    assert second.object.size > first.object.size
    assert second.num_clipped == 0
    top, left = (int(a - b) for a, b in zip(first.origin[::-1], second.origin[::-1], strict=True))
    height, width = first.object.shape
    under = second.coverage[top : top + height, left : left + width]
    assert (under >= first.coverage).all()


def test_following_ends_when_asked(whole, tmp_path):
    store = ps.build_group_store(whole.select(np.arange(75)), tmp_path / "s.zarr", growing=True)
    asked = threading.Event()
    following = ps.reconstruct(
        _untrained(store, 1, 2), store, follow=True, interval_s=0.05, should_stop=asked.is_set
    )
    assert next(following).is_partial
    asked.set()
    began = time.perf_counter()
    assert list(following) == []
    assert time.perf_counter() - began < 1
    with pytest.raises(ConfigurationError, match="interval_s=0"):
        next(ps.reconstruct(_untrained(store, 1, 2), store, follow=True, interval_s=0))
    with pytest.raises(ConfigurationError, match="following a store"):
        ps.reconstruct(_untrained(store, 1, 2), store, follow=True, groups_per_position=2)


def test_growth_of_another_experiment_is_none_of_this_one(tmp_path):
    scans = [ps.simulate_scan(num_positions=40, N=16, seed=seed) for seed in (0, 1)]
    path = tmp_path / "s.zarr"
    store = ps.build_group_store([scans[0], scans[1].select(np.arange(20))], path, growing=True)
    following = ps.reconstruct(
        _untrained(store, 1), store, experiment=0, follow=True, interval_s=0.05, passes=0
    )
    first = next(following)
    ps.append_patterns(path, scans[1].select(np.arange(20, 40)), experiment=1)
    finish_group_store(path)
    (last,) = following
    assert len(first.positions) == len(last.positions) == 40


def test_counts_and_times_are_those_of_all_that_was_stitched(whole, tmp_path):
    path = tmp_path / "s.zarr"
    store = ps.build_group_store(whole.select(np.arange(75)), path, growing=True)
    following = ps.reconstruct(_untrained(store, 1), store, follow=True, interval_s=0.05)
    first = next(following)
    ps.append_patterns(path, whole.select(np.arange(75, 80)))
    second = next(following)
    following.close()
    assert second.num_patches == 80
    assert second.num_clipped >= first.num_clipped
    for name, seconds in first.seconds.items():
        assert second.seconds[name] >= seconds


def test_parts_with_phases_of_their_own_become_one_object():
    rng = np.random.default_rng(0)
    true = np.exp(1j * rng.uniform(0, 1, (40, 48))).astype(np.complex64)
    turns = (0.0, 2.1, -1.4)
    centres = [(16, 16), (22, 20), (28, 18)]
    live, grid = LiveObject(), ObjectGrid(40, 48)
    for turn, (x, y) in zip(turns, centres, strict=True):
        part = PatchAccumulator(grid, torch.ones(16, 16))
        patch = true[y - 8 : y + 8, x - 8 : x + 8] * np.exp(1j * turn)
        part.add(torch.tensor(patch[None]).to(torch.complex64), np.array([[x, y]], float))
        live.add(part, grid, 2.0)
    obj, coverage = live.result()
    seen = np.zeros((40, 48))
    for x, y in centres:
        seen[y - 8 : y + 8, x - 8 : x + 8] += 1
    assert seen.max() == 3
    np.testing.assert_array_equal(coverage > 0, seen > 0)
    np.testing.assert_allclose(obj, 2 * true * (seen > 0), atol=1e-5)


def test_the_solver_goes_on_while_a_scan_grows_and_needs_no_network(whole, tmp_path):
    path = tmp_path / "s.zarr"
    store = ps.build_group_store(whole.select(np.arange(100)), path, growing=True)
    following = ps.follow(store, interval_s=0.01)
    first, second = next(following), next(following)
    assert first.is_partial
    # The same patterns again: the object goes on from where it was.
    assert second.misfit[-1] < first.misfit[-1]
    ps.append_patterns(path, whole.select(np.arange(100, 225)))
    latest = next(result for result in following if len(result.positions) == 225)
    assert latest.is_partial
    finish_group_store(path)
    *_, last = following
    assert not last.is_partial
    offline = ps.reconstruct(ps.open_group_store(path), checks_fit=False)
    assert last.object.shape == offline.object.shape
    assert last.misfit[-1] < 1.05 * offline.misfit[-1]


@pytest.mark.parametrize(("numbers", "is_told"), [([8, 10, 13, 17], True), ([8, 16, 8, 16], False)])
def test_patterns_that_come_faster_than_they_are_shown_are_said_once(caplog, numbers, is_told):
    pace = Pace()
    with caplog.at_level("WARNING", "ptychostream"):
        for number in [*numbers, *numbers]:
            pace.note(number, seconds=2.0, interval_s=1.0)
    assert caplog.text.count("faster than they are shown") == is_told
