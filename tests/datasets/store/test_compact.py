"""Grown stores don't decay: small segments are packed, and all of them compacted."""

import pickle
from dataclasses import replace

import numpy as np
import pytest

import ptychostream as ps
from ptychostream.cli.main import main
from ptychostream.errors import DataContractError, StorageError
from ptychostream.scan import ArrayPatterns, ScanMetadata


@pytest.fixture(scope="module")
def whole():
    scan = ps.simulate_scan(num_positions=120, N=16, step=2.5, nphotons=1e5, seed=4)
    return replace(scan, patterns=ArrayPatterns(scan.patterns.read(np.arange(120))))


@pytest.fixture
def grow(whole, tmp_path):
    """Build a store of 40 patterns and append blocks of 5 up to 80."""

    def build(stop=80):
        path = tmp_path / "s.zarr"
        scan = whole.select(np.arange(40))
        store = ps.build_group_store(scan, path, patterns_per_chunk=8, growing=True)
        for start in range(40, stop, 5):
            store = ps.append_patterns(path, whole.select(np.arange(start, start + 5)))
        return store

    return build


def test_small_blocks_share_few_segments(whole, grow):
    store = grow()
    assert [s.num_patterns for s in store.segments] == [40, 40]
    assert store.num_chunks == 10
    rows = np.arange(80)
    np.testing.assert_array_equal(store.diffraction(rows), whole.patterns.read(rows))
    np.testing.assert_array_equal(store.positions, whole.positions[:80])
    store.verify()


def test_a_snapshot_is_read_from_what_its_segments_were_packed_into(whole, grow, monkeypatch):
    before = ps.open_group_store(grow(55).path, cache_budget=1)
    there = pickle.loads(pickle.dumps(before))
    monkeypatch.setattr("ptychostream.datasets.store.chain.GRACE_S", -1)
    for start in range(55, 75, 5):
        ps.append_patterns(before.path, whole.select(np.arange(start, start + 5)))
    gone = [s for s in before.segments[1:] if not s.storage.folder.exists()]
    assert gone
    rows = np.random.default_rng(0).permutation(55)
    for store in (before, there):
        np.testing.assert_array_equal(store.diffraction(rows), whole.patterns.read(rows))
    assert before.refreshed().num_patterns == 75
    with pytest.raises(DataContractError, match="no longer the store that it was"):
        pickle.loads(pickle.dumps(before))


def test_packed_segments_stay_for_processes_that_were_just_started(whole, grow):
    before = grow(55)
    frozen = pickle.dumps(before)
    ps.append_patterns(before.path, whole.select(np.arange(55, 60)))
    there = pickle.loads(frozen)
    assert [s.blocks for s in there.segments] == [s.blocks for s in before.segments]
    assert there.num_patterns == 55


def test_a_compacted_store_is_one_that_was_built_at_once(whole, grow, tmp_path):
    grown = grow()
    groups = grown.groups(2, 6, seed=2)
    compacted = ps.compact_group_store(grown.path)
    built = ps.build_group_store(
        whole.select(np.arange(80)), tmp_path / "b.zarr", patterns_per_chunk=8, growing=True
    )
    ours, theirs = (
        {name: digest for name, (_, digest) in store.segments[0].files.items()}
        for store in (compacted, built)
    )
    # The attributes of the root say what it was compacted from.
    assert {n for n in ours.keys() | theirs if ours.get(n) != theirs.get(n)} == {"zarr.json"}
    assert len(compacted.segments) == 1
    np.testing.assert_array_equal(compacted.groups(2, 6, seed=2).nn_indices, groups.nn_indices)
    compacted.verify()
    assert ps.compact_group_store(compacted.path).segments[0].files == compacted.segments[0].files


def test_readers_and_followers_are_not_disturbed_by_a_compaction(whole, grow, tmp_path):
    reader = ps.open_group_store(grow().path, cache_budget=1)
    follower = reader.follow(interval_s=0.01)
    assert next(follower).num_patterns == 80
    ps.compact_group_store(reader.path)
    rows = np.arange(80)
    np.testing.assert_array_equal(reader.diffraction(rows), whole.patterns.read(rows))
    ps.append_patterns(reader.path, whole.select(np.arange(80, 90)))
    assert next(follower).num_patterns == 90
    ps.finish_group_store(reader.path)
    assert [store.num_patterns for store in follower] == []
    reader.release()
    follower.close()
    assert ps.compact_group_store(reader.path).is_complete
    # Only now does nobody read what was replaced.
    left = [p.name for p in tmp_path.iterdir() if "replaced" in p.name]
    assert len(left) <= 1


def test_what_is_not_a_folder_is_not_compacted(tiny_scan):
    ps.build_group_store(tiny_scan, "memory://compact/s.zarr", patterns_per_chunk=8)
    with pytest.raises(StorageError, match="build a new store from it"):
        ps.compact_group_store("memory://compact/s.zarr")


def _second(whole):
    """Another sample, with another beam of two modes, a dead pixel and metadata."""
    scan = ps.simulate_scan(num_positions=30, N=16, step=2.5, nphotons=1e5, seed=9)
    bad = np.zeros((16, 16), bool)
    bad[3, 4] = True
    probe = np.concatenate([scan.probe, 0.1 * scan.probe[:, ::-1]])
    metadata = ScanMetadata(energy_eV=8000.0)
    return replace(scan, probe=probe, bad_pixels=bad, metadata=metadata)


def test_an_appended_experiment_is_as_one_that_was_built(whole, tmp_path):
    first, second = whole.select(np.arange(40)), _second(whole)
    grown = ps.build_group_store(first, tmp_path / "g.zarr", patterns_per_chunk=8, growing=True)
    ps.append_patterns(grown.path, second.select(np.arange(20)), experiment="new")
    ps.append_patterns(grown.path, second.select(np.arange(20, 30)), experiment=1)
    ps.append_patterns(grown.path, first.select(np.arange(20)), experiment="new")
    grown = ps.open_group_store(grown.path)
    scans = [first, second, first.select(np.arange(20))]
    built = ps.build_group_store(scans, tmp_path / "b.zarr", patterns_per_chunk=8)
    for store in (grown, ps.compact_group_store(grown.path)):
        assert store.num_experiments == 3
        for name in ("probe", "bad_pixels", "positions", "experiment_id", "total_counts"):
            np.testing.assert_array_equal(getattr(store, name), getattr(built, name))
        rows = np.arange(built.num_patterns)
        np.testing.assert_array_equal(store.diffraction(rows), built.diffraction(rows))
        for number in range(3):
            ours, theirs = store.scan(number), built.scan(number)
            assert ours.metadata == theirs.metadata
            assert ours.probe.shape == theirs.probe.shape
            np.testing.assert_array_equal(ours.object_guess, theirs.object_guess)
        np.testing.assert_array_equal(
            store.groups(1, 4, seed=3).nn_indices, built.groups(1, 4, seed=3).nn_indices
        )
        store.verify()


def test_commands_append_experiments_and_compact(whole, tmp_path, capsys):
    from ptychostream.datasets.sources.npz import write_npz

    write_npz(whole.select(np.arange(40)), tmp_path / "a.npz")
    store = str(tmp_path / "s.zarr")
    assert main(["build", str(tmp_path / "a.npz"), store]) == 0
    assert main(["append", str(tmp_path / "a.npz"), store, "--experiment", "new"]) == 0
    assert main(["append", str(tmp_path / "a.npz"), store]) == 1  # it is in experiment 0 already
    assert main(["compact", store]) == 0
    assert "80 patterns in one segment" in capsys.readouterr().out
    assert ps.open_group_store(store).num_experiments == 2
