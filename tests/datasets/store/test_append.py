import gc
import multiprocessing
import os
import pickle
import threading
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

import ptychostream as ps
from ptychostream.datasets.store.storage import StoreFiles
from ptychostream.errors import DataContractError, StoreExistsError
from ptychostream.scan import ArrayPatterns


def _part(scan, start, stop):
    return scan.select(np.arange(start, stop))


@pytest.fixture
def whole():
    scan = ps.simulate_scan(num_positions=120, N=16, step=2.5, seed=3)
    return replace(scan, patterns=ArrayPatterns(scan.patterns.read(np.arange(120))))


@pytest.fixture
def grown(whole, tmp_path):
    ps.build_group_store(
        _part(whole, 0, 50), tmp_path / "s.zarr", patterns_per_chunk=8, growing=True
    )
    for start, stop in ((50, 53), (53, 100), (100, 120)):
        store = ps.append_patterns(tmp_path / "s.zarr", _part(whole, start, stop))
    return store


def test_appended_patterns_follow_in_acquisition_order(whole, grown):
    rows = np.random.default_rng(0).permutation(120)
    np.testing.assert_array_equal(grown.diffraction(rows), whole.patterns.read(rows))
    np.testing.assert_array_equal(grown.positions, whole.positions)
    np.testing.assert_allclose(
        grown.total_counts, whole.patterns.read(np.arange(120)).sum(axis=(1, 2))
    )
    grown.verify()


def test_a_grown_store_is_streamed_as_one_built_at_once(whole, grown, tmp_path):
    once = ps.build_group_store(whole, tmp_path / "once.zarr", patterns_per_chunk=8)
    groups = grown.groups(2, 6, seed=1)
    np.testing.assert_array_equal(groups.nn_indices, once.groups(2, 6, seed=1).nn_indices)
    for budget in ("1 GiB", 8 * 16 * 16 * 2 * 2 * 6):
        batches = list(ps.make_loader(grown, groups, batch_size=7, memory_budget=budget))
        assert sum(len(batch) for batch in batches) == 120
        for batch in batches:
            expected = np.sqrt(whole.patterns.read(batch["nn_indices"].numpy().ravel()))
            np.testing.assert_allclose(
                batch["diffraction"].reshape(-1, 16, 16), expected, rtol=1e-6
            )


def test_a_reader_keeps_its_snapshot_and_its_groups(whole, tmp_path):
    before = ps.build_group_store(_part(whole, 0, 50), tmp_path / "s.zarr", growing=True)
    few = before.groups(1, 4)
    after = ps.append_patterns(tmp_path / "s.zarr", _part(whole, 50, 90))
    assert (before.num_patterns, after.num_patterns) == (50, 90)
    assert (len(few), len(before.groups(1, 4)), len(after.groups(1, 4))) == (50, 50, 90)
    assert before.refreshed().num_patterns == 90
    assert after.refreshed() is after
    assert pickle.loads(pickle.dumps(before)).num_patterns == 50


def test_a_store_built_from_a_grown_one_is_in_one_order(whole, grown, tmp_path):
    once = ps.build_group_store(whole, tmp_path / "once.zarr", patterns_per_chunk=8)
    compact = ps.build_group_store(grown.path, tmp_path / "compact.zarr", patterns_per_chunk=8)
    for name in ("0", "1"):
        file = f"diffraction/c/{name}/0/0"
        if (once.path / file).exists():
            assert (compact.path / file).read_bytes() == (once.path / file).read_bytes()
    assert len(compact.segments) == 1


@pytest.mark.parametrize("what", ["size", "domain", "type", "probe", "bad_pixels", "experiment"])
def test_what_does_not_continue_the_experiment_is_refused(whole, tmp_path, what):
    target = tmp_path / "s.zarr"
    ps.build_group_store(_part(whole, 0, 50), target, growing=True)
    part = _part(whole, 50, 60)
    mask = np.zeros((16, 16), bool)
    mask[3, 3] = True
    changed = {
        "size": lambda: ps.simulate_scan(num_positions=9, N=32),
        "domain": lambda: replace(part, measurement_domain="amplitude"),
        "type": lambda: replace(
            part, patterns=ArrayPatterns(part.patterns.read(np.arange(10)).astype(np.float64))
        ),
        "probe": lambda: replace(part, probe=part.probe * 2),
        "bad_pixels": lambda: replace(part, bad_pixels=mask),
        "experiment": lambda: part,
    }[what]()
    with pytest.raises(DataContractError, match=r"does not continue|no experiment 3"):
        ps.append_patterns(target, changed, experiment=3 if what == "experiment" else 0)
    assert ps.open_group_store(target).num_patterns == 50
    assert [p.name for p in (target / "segments").glob("*")] == []


@pytest.mark.parametrize("growing", [True, False])
def test_a_finished_store_takes_no_more(whole, tmp_path, growing):
    target = tmp_path / "s.zarr"
    store = ps.build_group_store(_part(whole, 0, 50), target, growing=growing)
    assert store.is_complete is not growing
    ps.finish_group_store(target)
    assert store.is_complete
    with pytest.raises(DataContractError, match="is finished"):
        ps.append_patterns(target, _part(whole, 50, 60))


def test_a_killed_appending_leaves_the_store_as_it_was(whole, tmp_path):
    target = tmp_path / "s.zarr"
    ps.build_group_store(_part(whole, 0, 50), target, growing=True)

    class Dies(ArrayPatterns):
        def read(self, rows):
            if len(rows) and rows.max() > 20:
                import os

                os._exit(9)
            return super().read(rows)

    part = _part(whole, 50, 100)
    dying = replace(part, patterns=Dies(part.patterns.read(np.arange(50))))
    process = multiprocessing.get_context("fork").Process(
        target=ps.append_patterns, args=(target, dying)
    )
    process.start()
    process.join()
    assert process.exitcode == 9
    assert ps.open_group_store(target).num_patterns == 50
    assert ps.append_patterns(target, part).num_patterns == 100
    assert [p.name for p in (target / "segments").iterdir() if p.is_dir()] == ["000001"]


def test_a_second_appender_is_refused(whole, tmp_path):
    target = tmp_path / "s.zarr"
    ps.build_group_store(_part(whole, 0, 50), target, growing=True)
    inside, leave = threading.Event(), threading.Event()

    class Waits(ArrayPatterns):
        def read(self, rows):
            inside.set()
            leave.wait(20)
            return super().read(rows)

    part = _part(whole, 50, 60)
    slow = replace(part, patterns=Waits(part.patterns.read(np.arange(10))))
    first = threading.Thread(target=ps.append_patterns, args=(target, slow))
    first.start()
    inside.wait(20)
    try:
        with pytest.raises(StoreExistsError, match="another process is appending"):
            ps.append_patterns(target, part)
    finally:
        leave.set()
        first.join()
    assert ps.open_group_store(target).num_patterns == 60


def test_followers_see_every_pattern_and_come_to_the_end(whole, tmp_path):
    target = tmp_path / "s.zarr"
    store = ps.build_group_store(_part(whole, 0, 20), target, growing=True, patterns_per_chunk=8)
    torn, seen = [], {}
    values = whole.patterns.read(np.arange(120))

    def read(number):
        sizes = []
        for now in store.follow(interval_s=0.01, timeout_s=30):
            rows = np.arange(now.num_patterns)
            if not (now.diffraction(rows) == values[rows]).all():
                torn.append(now.num_patterns)
            sizes.append(now.num_patterns)
        seen[number] = sizes

    readers = [threading.Thread(target=read, args=(number,)) for number in range(4)]
    for reader in readers:
        reader.start()
    for start in range(20, 120, 10):
        ps.append_patterns(target, _part(whole, start, start + 10))
        time.sleep(0.02)
    ps.finish_group_store(target)
    for reader in readers:
        reader.join()
    assert torn == []
    assert len(seen) == 4
    for sizes in seen.values():
        assert sizes == sorted(set(sizes))
        assert sizes[-1] == 120


def test_following_ends_when_nothing_comes(whole, tmp_path, caplog):
    store = ps.build_group_store(_part(whole, 0, 20), tmp_path / "s.zarr", growing=True)
    assert len(list(store.follow(interval_s=0.01, timeout_s=0.05))) == 1
    assert "never finished" in caplog.text


def test_a_reader_never_reads_the_patterns_of_a_store_that_took_the_name(whole, tmp_path):
    target = tmp_path / "s.zarr"
    store = ps.build_group_store(whole, target, patterns_per_chunk=8)
    other = ps.simulate_scan(num_positions=120, N=16, step=2.5, seed=4)
    ps.build_group_store(other, target, patterns_per_chunk=8, overwrite=True)
    with pytest.raises(DataContractError, match="replaced"):
        store.diffraction(np.arange(120))
    with pytest.raises(DataContractError, match="replaced"):
        store.refreshed()
    with pytest.raises(DataContractError, match="no longer the store"):
        pickle.loads(pickle.dumps(store))


def test_a_block_is_not_appended_twice(whole, tmp_path):
    path = tmp_path / "s.zarr"
    block = whole.select(np.arange(20, 40))
    ps.build_group_store(whole.select(np.arange(20)), path, growing=True)
    ps.append_patterns(path, block)
    files = {p: p.read_bytes() for p in path.rglob("*") if p.is_file()}
    # Nor a part of it.
    for again, number in (block, "20 of 20"), (whole.select(np.arange(39, 60)), "1 of 21"):
        with pytest.raises(DataContractError, match=rf"{number} patterns .*s\.zarr' already"):
            ps.append_patterns(path, again)
    assert files == {p: p.read_bytes() for p in path.rglob("*") if p.is_file()}


def test_another_exposure_at_the_same_position_is_appended(whole, tmp_path):
    ps.build_group_store(whole, tmp_path / "s.zarr", growing=True)
    mirrored = whole.patterns.read(np.arange(2))[..., ::-1]  # the same sums
    block = replace(whole.select(np.arange(2)), patterns=ArrayPatterns(mirrored))
    assert ps.append_patterns(tmp_path / "s.zarr", block).num_patterns == 122
    dark = replace(block, patterns=ArrayPatterns(0 * mirrored))
    for _ in range(2):
        store = ps.append_patterns(tmp_path / "s.zarr", dark)
    assert store.num_patterns == 126


def test_amplitudes_of_counts_are_not_continued_by_others(whole, tmp_path):
    values = np.sqrt(whole.patterns.read(np.arange(120)), dtype=np.float32)
    amplitudes = replace(whole, patterns=ArrayPatterns(values), measurement_domain="amplitude")
    ps.build_group_store(_part(amplitudes, 0, 50), tmp_path / "s.zarr", growing=True)
    scaled = replace(amplitudes, patterns=ArrayPatterns(values / 7.3))
    with pytest.raises(DataContractError, match="its patterns are no photon counts"):
        ps.append_patterns(tmp_path / "s.zarr", _part(scaled, 50, 60))
    store = ps.append_patterns(tmp_path / "s.zarr", _part(amplitudes, 50, 60))
    assert store.num_patterns == 60
    assert store.has_photon_counts


def test_the_order_of_a_number_s_bytes_is_no_other_type(whole, tmp_path):
    swapped = whole.patterns.read(np.arange(120)).astype(">u4")
    scan = replace(whole, patterns=ArrayPatterns(swapped))
    ps.build_group_store(_part(scan, 0, 50), tmp_path / "s.zarr", growing=True)
    store = ps.append_patterns(tmp_path / "s.zarr", _part(scan, 50, 60))
    np.testing.assert_array_equal(store.diffraction(np.arange(60)), swapped[:60])


def test_a_block_that_is_published_while_files_are_listed_is_no_error(grown, monkeypatch):
    # The scratch folder of an appending takes its final name in the middle of a listing.
    folder = grown.path / "segments"
    (folder / ".000004.partial").mkdir()
    (folder / ".000004.partial" / "file").write_bytes(b"x")
    scandir = os.scandir

    def publishing(path):
        if os.fspath(path).endswith(".partial"):
            (folder / ".000004.partial").rename(folder / "published")
        return scandir(path)

    monkeypatch.setattr(os, "scandir", publishing)
    assert "segments/000001/manifest.json" in StoreFiles.of_folder(grown.path).sizes()
    assert (folder / "published").is_dir()


def test_a_store_of_many_segments_holds_one_folder_open(whole, tmp_path, monkeypatch):
    monkeypatch.setattr("ptychostream.datasets.store.append.CHUNKS_PER_SHARD", 0)  # no packing
    ps.build_group_store(_part(whole, 0, 20), tmp_path / "s.zarr", growing=True)
    for start in range(20, 60, 4):
        ps.append_patterns(tmp_path / "s.zarr", _part(whole, start, start + 4))
    gc.collect()
    before = len(list(Path("/proc/self/fd").iterdir()))
    store = ps.open_group_store(tmp_path / "s.zarr")
    assert len(store.segments) == 11
    assert len(list(Path("/proc/self/fd").iterdir())) <= before + 1
    # All of them are read from the folder as it was, under whatever name.
    (tmp_path / "s.zarr").rename(tmp_path / "away")
    rows = np.arange(60)
    np.testing.assert_array_equal(store.diffraction(rows), whole.patterns.read(rows))


def test_patterns_that_are_numbered_go_on_to_be(whole, tmp_path):
    ps.build_group_store(_part(whole, 0, 20), tmp_path / "s.zarr", growing=True)
    block = replace(_part(whole, 20, 30), scan_index=None)
    store = ps.append_patterns(tmp_path / "s.zarr", block)
    np.testing.assert_array_equal(store.scan_index, np.arange(30))
    np.testing.assert_array_equal(store.pattern_numbers(0), np.arange(30))
