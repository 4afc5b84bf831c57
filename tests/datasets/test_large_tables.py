import shutil

import numpy as np
import pytest

import ptychostream as ps
from ptychostream.datasets import large_tables
from ptychostream.datasets.large_tables import joined_rows, new_table, row_numbers, sorted_rows
from ptychostream.errors import DataContractError


@pytest.fixture
def small_blocks(monkeypatch):
    """Treat tables of some hundred rows like those of a hundred million."""
    monkeypatch.setattr(large_tables, "IN_MEMORY", 64)
    monkeypatch.setattr(large_tables, "_BLOCK", 7)
    monkeypatch.setattr("ptychostream.datasets.store.checked_files._TOGETHER", 300)
    monkeypatch.setattr("ptychostream.datasets.grouping.nearest._IN_ONE_TREE", 20)


@pytest.fixture(scope="module")
def built(tmp_path_factory):
    folder = tmp_path_factory.mktemp("tables")
    scans = [ps.simulate_scan(num_positions=n, N=16, step=2.5, seed=n) for n in (60, 40)]
    ps.build_group_store(scans, folder / "s.zarr", patterns_per_chunk=8)
    return folder / "s.zarr"


@pytest.mark.parametrize("count", [1, 5, 70_000])
def test_rows_are_sorted_as_by_a_stable_sort(count, small_blocks):
    numbers = np.random.default_rng(0).integers(count, size=100)
    rows, starts = sorted_rows(lambda block: numbers[block], len(numbers), count)
    np.testing.assert_array_equal(rows, np.argsort(numbers, kind="stable"))
    np.testing.assert_array_equal(np.diff(starts), np.bincount(numbers, minlength=count))


def test_large_tables_lie_in_files_without_a_name(small_blocks, tmp_path, monkeypatch):
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    table = new_table((5, 9), np.float64)
    table[2] = 3
    assert not list(tmp_path.iterdir())
    assert table.sum() == 27
    assert isinstance(table.base, np.memmap)
    np.testing.assert_array_equal(row_numbers(30), np.arange(30))
    np.testing.assert_array_equal(joined_rows([np.arange(20), np.arange(3)])[-4:], [19, 0, 1, 2])


def test_a_table_without_room_on_the_disk_is_in_memory_with_a_warning(
    small_blocks, caplog, monkeypatch
):
    usage = shutil.disk_usage("/")._replace(free=10)
    monkeypatch.setattr("shutil.disk_usage", lambda folder: usage)
    assert new_table((100,), np.int8).base is None
    assert "TMPDIR" in caplog.text


def test_a_store_by_blocks_is_the_store_as_a_whole(built, small_blocks, monkeypatch):
    options = {"gridsize": 2, "neighbor_count": 5, "groups_per_position": 2}
    by_blocks = ps.open_group_store(built)
    groups = by_blocks.groups(**options)
    kept = by_blocks.groups(**options)
    plan = {"batch_size": 8, "memory_budget": 3 * 8 * 16**2 * 4}
    windows = ps.make_loader(by_blocks, groups, **plan).order.windows
    monkeypatch.undo()
    shutil.rmtree(built / "groupings")
    whole = ps.open_group_store(built)
    for name in ("positions", "experiment_id", "scan_index", "total_counts", "storage_rows"):
        np.testing.assert_array_equal(getattr(by_blocks, name), getattr(whole, name))
    for experiment in (0, 1):
        np.testing.assert_array_equal(by_blocks.rows(experiment), whole.rows(experiment))
    expected = whole.groups(**options)
    np.testing.assert_array_equal(groups.nn_indices, expected.nn_indices)
    np.testing.assert_array_equal(kept.nn_indices, expected.nn_indices)
    planned = ps.make_loader(whole, expected, **plan).order.windows
    assert len(windows) == len(planned) > 1
    for ours, theirs in zip(windows, planned, strict=True):
        np.testing.assert_array_equal(ours.groups, theirs.groups)
        np.testing.assert_array_equal(ours.chunks, theirs.chunks)


def test_a_changed_table_is_named_by_blocks_too(built, tmp_path, small_blocks):
    folder = shutil.copytree(built, tmp_path / "s.zarr")
    file = folder / "positions" / "c" / "0" / "0"
    file.write_bytes(file.read_bytes()[::-1])
    with pytest.raises(DataContractError, match=r"'positions/c/.* changed"):
        ps.open_group_store(folder)


def test_a_growing_store_is_followed_by_blocks_too(tmp_path, small_blocks):
    scan = ps.simulate_scan(num_positions=90, N=16, step=2.5)
    first = scan.select(np.arange(50))
    store = ps.build_group_store(first, tmp_path / "s.zarr", patterns_per_chunk=8, growing=True)
    ps.append_patterns(store.path, scan.select(np.arange(50, 90)))
    grown = store.refreshed()
    np.testing.assert_array_equal(grown.positions, scan.positions)
    np.testing.assert_array_equal(
        grown.diffraction(np.arange(90)), scan.patterns.read(np.arange(90))
    )
    assert not grown.experiment_id.any()
    assert len(np.unique(grown.storage_rows)) == 90
