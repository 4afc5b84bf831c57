import json
import shutil
import subprocess
import sys
from dataclasses import replace

import numpy as np
import pytest
import torch

import ptychostream as ps
from ptychostream.datasets.batches.batch import ENTRIES, check_batch
from ptychostream.errors import ConfigurationError, DataContractError, StorageError
from ptychostream.scan import ArrayPatterns


@pytest.mark.parametrize("budget", ["1 GiB", "6 KiB"])
@pytest.mark.parametrize("gridsize", [1, 2, 3])
def test_batches_hold_the_documented_entries_and_the_right_patterns(
    tiny_scan, tiny_store, gridsize, budget
):
    groups = tiny_store.groups(gridsize, 10)
    counts = tiny_scan.patterns.read(np.arange(64)).astype(np.float64)
    loader = ps.make_loader(tiny_store, groups, batch_size=7, memory_budget=budget)
    seeds = []
    for batch in loader:
        sizes = check_batch(batch)
        assert set(batch.keys()) == set(ENTRIES)
        assert sizes["C"] == gridsize**2
        rows = batch["nn_indices"].numpy()
        np.testing.assert_allclose(batch["diffraction"], np.sqrt(counts[rows]), rtol=1e-6)
        offsets, relative = batch["coords_offsets"], batch["coords_relative"]
        np.testing.assert_allclose(
            (offsets - relative)[:, :, 0], tiny_store.positions[rows], rtol=1e-5
        )
        seeds += rows[:, 0].tolist()
    assert sorted(seeds) == list(range(64))
    assert len(loader) == 10


def test_order_of_the_table_without_shuffle(tiny_store):
    groups = tiny_store.groups(2, 6)
    loader = ps.make_loader(tiny_store, groups, shuffle=False, memory_budget="6 KiB")
    rows = torch.cat([batch["nn_indices"] for batch in loader])
    np.testing.assert_array_equal(rows, groups.nn_indices)


def test_scales_bring_energy_to_a_quarter_of_the_pixels_and_counts_to_themselves(tiny_store):
    loader = ps.make_loader(tiny_store, tiny_store.groups(1), batch_size=64)
    batch = next(iter(loader))
    energy = (batch["diffraction"] * batch["rms_scale"]).double().square().sum((1, 2, 3)).mean()
    assert energy.item() == pytest.approx(8**2, rel=1e-5)
    assert (batch["physics_scale"] == 1).all()


def test_ranks_share_the_epoch_with_equal_numbers_of_batches(tiny_store):
    groups = tiny_store.groups(2, 6)
    seeds, numbers = [], set()
    for rank in range(3):
        loader = ps.make_loader(
            tiny_store, groups, batch_size=7, rank=rank, world_size=3, memory_budget="6 KiB"
        )
        batches = list(loader)
        numbers.add(len(batches))
        seeds += [row for batch in batches for row in batch["nn_indices"][:, 0].tolist()]
    assert sorted(seeds) == list(range(64))
    assert numbers == {3}


def test_state_resumes_at_the_very_next_batch(tiny_store):
    groups = tiny_store.groups(2, 6)

    def loader():
        return ps.make_loader(tiny_store, groups, batch_size=5, seed=8, memory_budget="6 KiB")

    first = loader()
    first.set_epoch(2)
    stream = iter(first)
    for _ in range(4):
        next(stream)
    state = first.state_dict()
    rest = list(stream)
    second = loader()
    second.load_state_dict(state)
    resumed = list(second)
    assert len(rest) == len(resumed) == len(second) - 4
    for mine, theirs in zip(rest, resumed, strict=True):
        assert (mine == theirs).all()
    # The epoch after a resumed one is a whole one.
    assert len(list(second)) == len(second)


def test_a_state_of_another_order_is_refused(tiny_scan, tmp_path):
    store = ps.build_group_store(tiny_scan, tmp_path / "s.zarr", patterns_per_chunk=4)
    groups = store.groups(1)

    def loader(budget, size=5):
        return ps.make_loader(store, groups, batch_size=size, memory_budget=budget)

    first = loader("8 KiB")
    stream = iter(first)
    next(stream)
    state = first.state_dict()
    with pytest.raises(ConfigurationError, match="go on with the memory_budget of before"):
        loader("1 GiB").load_state_dict(state)
    with pytest.raises(ConfigurationError, match="12 batches were served, but an epoch has 2"):
        # A state of an earlier version, which says no more.
        loader("8 KiB", size=40).load_state_dict({"epoch": 0, "served": 12})
    # Budgets that hold the whole store differ in nothing, nor do epochs that have not begun.
    whole = loader("1 GiB")
    next(iter(whole))
    loader("2 GiB").load_state_dict(whole.state_dict())
    loader("1 GiB").load_state_dict(loader("8 KiB").state_dict())


def test_a_state_names_what_it_depends_on_and_refuses_others(tiny_scan, tiny_store, tmp_path):
    groups = tiny_store.groups(1)
    first = ps.make_loader(tiny_store, groups, batch_size=5, seed=1)
    next(iter(first))
    state = json.loads(json.dumps(first.state_dict()))
    other = ps.build_group_store(tiny_scan, tmp_path / "s.zarr", patterns_per_chunk=4)
    mixed = replace(groups, nn_indices=groups.nn_indices[::-1])
    for name, store, table, options in (
        ("batch_size", tiny_store, groups, {"batch_size": 6}),
        ("seed", tiny_store, groups, {"seed": 2}),
        ("order", tiny_store, groups, {"shuffle": False}),
        ("drop_last", tiny_store, groups, {"drop_last": True}),
        ("world_size", tiny_store, groups, {"world_size": 2}),
        ("groups", tiny_store, mixed, {}),
        ("store", other, groups, {}),
    ):
        loader = ps.make_loader(store, table, **({"batch_size": 5, "seed": 1} | options))
        with pytest.raises(ConfigurationError, match=f"another {name} .*begin the epoch anew"):
            loader.load_state_dict(state)
        # Between epochs nothing depends on them.
        loader.load_state_dict(state | {"served": 0})
    again = ps.make_loader(tiny_store, groups, batch_size=5, seed=1)
    again.load_state_dict(state)
    assert again.state_dict() == first.state_dict()


@pytest.mark.parametrize(
    "state", [{}, {"epoch": 0}, {"epoch": "0", "served": 1}, {"epoch": 0, "served": -1}]
)
def test_what_is_no_state_is_refused(tiny_store, state):
    loader = ps.make_loader(tiny_store, tiny_store.groups(1))
    with pytest.raises(ConfigurationError, match="are no state of a loader"):
        loader.load_state_dict(state)


def test_the_state_counts_from_the_epochs_beginning_after_one_was_left(tiny_store):
    loader = ps.make_loader(tiny_store, tiny_store.groups(1), batch_size=8)
    for number, _ in enumerate(loader):
        if number == 2:
            break
    next(iter(loader))
    assert loader.state_dict()["served"] == 1


def test_moving_to_a_device_in_an_epoch_takes_no_root_twice(tiny_store):
    loader = ps.make_loader(tiny_store, tiny_store.groups(1), batch_size=8, shuffle=False)
    expected = [batch["diffraction"] for batch in loader]
    stream = iter(loader)
    next(stream)
    # What a GPU does, done by the processor.
    loader.to(torch.device("cpu"), device_for_windows="cpu")
    torch.testing.assert_close(next(stream)["diffraction"], expected[1])


@pytest.mark.parametrize(
    "options", [{"order": "foo"}, {"ahead": -1}, {"num_threads": -1}, {"seed": -1}]
)
def test_senseless_options_are_refused(tiny_store, options):
    with pytest.raises(ConfigurationError, match=next(iter(options))):
        len(ps.make_loader(tiny_store, tiny_store.groups(1), **options))


def test_each_epoch_has_its_own_order(tiny_store):
    loader = ps.make_loader(tiny_store, tiny_store.groups(1), batch_size=64)
    orders = []
    for epoch in (0, 1, 0):
        loader.set_epoch(epoch)
        orders.append(next(iter(loader))["nn_indices"].flatten().tolist())
    assert orders[0] == orders[2] != orders[1]


def test_leaving_an_epoch_early_starts_over(tiny_store):
    loader = ps.make_loader(tiny_store, tiny_store.groups(1), batch_size=8)
    for batch in loader:
        assert len(batch) == 8
        break
    loader.load_state_dict({"epoch": 0, "served": 0})
    assert len(list(loader)) == 8


def test_a_rank_outside_the_world_is_refused(tiny_store):
    with pytest.raises(ConfigurationError, match="rank=2"):
        ps.make_loader(tiny_store, tiny_store.groups(1), rank=2, world_size=2)


def test_amounts_of_memory_are_read_or_refused(tiny_store):
    with pytest.raises(ConfigurationError, match="'lots' is not an amount of memory"):
        ps.make_loader(tiny_store, tiny_store.groups(1), memory_budget="lots")


def test_a_wrong_batch_is_named(tiny_store):
    batch = next(iter(ps.make_loader(tiny_store, tiny_store.groups(1))))
    with pytest.raises(DataContractError, match="'diffraction' is .* expected"):
        check_batch(batch.clone().set("diffraction", batch["diffraction"].double()))
    with pytest.raises(DataContractError, match="lacks 'rms_scale'"):
        check_batch(batch.exclude("rms_scale"))


def test_a_store_that_fits_into_one_window_is_decoded_once(tiny_store, monkeypatch):
    loader = ps.make_loader(tiny_store, tiny_store.groups(2, 6), batch_size=16)
    first = [batch["diffraction"].sum() for batch in loader]
    monkeypatch.setattr(type(tiny_store.chunks), "read_chunk", None)  # it would not be called
    loader.set_epoch(1)
    assert sum(batch["diffraction"].sum() for batch in loader) == pytest.approx(sum(first))


def test_an_epoch_that_was_left_early_begins_anew(tiny_store):
    loader = ps.make_loader(tiny_store, tiny_store.groups(1), batch_size=8, shuffle=False)
    first = next(iter(loader))["nn_indices"]
    assert (next(iter(loader))["nn_indices"] == first).all()
    assert len(list(loader)) == len(loader)


@pytest.mark.parametrize(
    "dtype", [np.uint8, np.uint16, np.uint32, np.int32, np.float32, np.float64]
)
@pytest.mark.parametrize("budget", ["1 GiB", 6000])
def test_gathering_on_a_device_gives_the_batches_of_the_host(tiny_scan, tmp_path, dtype, budget):
    values = tiny_scan.patterns.read(np.arange(64)).astype(dtype)
    if dtype == np.uint16:
        values[:, 8, 8] = 65535
    mask = np.zeros((16, 16), bool)
    mask[2, 3] = True
    scan = replace(tiny_scan, patterns=ArrayPatterns(values), bad_pixels=mask)
    store = ps.build_group_store(scan, tmp_path / "s.zarr", patterns_per_chunk=8)
    groups = store.groups(2, 6)
    # What a GPU does, done by the processor.
    host, device = (
        ps.make_loader(store, groups, batch_size=7, memory_budget=budget, device_for_windows=where)
        for where in (None, "cpu")
    )
    for first, second in zip(host, device, strict=True):
        torch.testing.assert_close(first["diffraction"], second["diffraction"])
        assert (first["nn_indices"] == second["nn_indices"]).all()
        assert second["diffraction"].dtype == torch.float32


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
def test_batches_are_gathered_on_the_gpu(tiny_store):
    groups = tiny_store.groups(2, 6)
    host = ps.make_loader(tiny_store, groups, batch_size=7)
    device = ps.make_loader(tiny_store, groups, batch_size=7, device="cuda")
    for first, second in zip(host, device, strict=True):
        assert second["diffraction"].is_cuda
        torch.testing.assert_close(first["diffraction"], second["diffraction"].cpu())


def test_a_cache_gives_the_same_batches_and_is_found_again(tiny_scan, tmp_path):
    store = ps.build_group_store(tiny_scan, tmp_path / "s.zarr", patterns_per_chunk=8)
    groups = store.groups(2, 6)
    options = {"batch_size": 7, "memory_budget": 6000, "seed": 3}
    streamed = list(ps.make_loader(store, groups, **options))
    cached = {"cache": "memmap", "cache_folder": tmp_path / "cache"}
    first = list(ps.make_loader(store, groups, **options, **cached))
    (file,) = (tmp_path / "cache").iterdir()
    assert file.stat().st_size == 64 * 16 * 16 * tiny_scan.patterns.dtype.itemsize
    written = file.stat().st_mtime_ns
    # The store's patterns are not read any more.
    shutil.rmtree(store.path / "diffraction" / "c")
    again = list(ps.make_loader(store, groups, **options, **cached))
    assert file.stat().st_mtime_ns == written
    for one, two, three in zip(streamed, first, again, strict=True):
        assert (one["diffraction"] == two["diffraction"]).all()
        assert (one["diffraction"] == three["diffraction"]).all()


def test_a_cache_larger_than_the_budget_does_not_move_to_a_device_as_a_whole(tiny_store, tmp_path):
    groups = tiny_store.groups(1)
    chunk = 8 * 16 * 16 * tiny_store.dtype.itemsize
    cached = {"cache": "memmap", "cache_folder": tmp_path}
    small, large = {"memory_budget": 4 * chunk}, {"memory_budget": 64 * chunk}

    def window_fits(**options):
        return ps.make_loader(tiny_store, groups, batch_size=7, **options).window_fits

    # Eight chunks in all. Without a cache, windows keep to the budget anyway.
    assert not window_fits(**small, **cached)(100 * chunk)
    assert window_fits(**large, **cached)(8 * chunk)
    assert not window_fits(**large, **cached)(7 * chunk)
    assert window_fits(**small)(4 * chunk)


def test_a_cache_belongs_to_one_content(tiny_scan, tmp_path):
    cached = {"cache": "memmap", "cache_folder": tmp_path / "cache"}
    target = tmp_path / "s.zarr"
    for scan in (tiny_scan, tiny_scan.select(np.arange(63, -1, -1))):
        store = ps.build_group_store(scan, target, patterns_per_chunk=8, overwrite=True)
        batch = next(
            iter(ps.make_loader(store, store.groups(1), batch_size=64, shuffle=False, **cached))
        )
        np.testing.assert_allclose(
            batch["diffraction"][:, 0], np.sqrt(scan.patterns.read(np.arange(64))), rtol=1e-6
        )
    assert len(list((tmp_path / "cache").iterdir())) == 2


def test_a_cache_that_cannot_be_kept_is_said(tiny_store, tmp_path):
    (tmp_path / "file").write_text("")
    groups = tiny_store.groups(1)
    for options, message in (
        ({"cache": "memmap", "cache_folder": tmp_path / "file"}, "could not cache"),
        ({"cache": "ram"}, "there is 'memmap'"),
        ({"cache_folder": tmp_path}, "does nothing without"),
    ):
        with pytest.raises((StorageError, ConfigurationError), match=message):
            next(iter(ps.make_loader(tiny_store, groups, **options)))
    assert (tmp_path / "file").read_text() == ""


def test_a_forked_child_reads_what_its_parent_reads(tiny_store):
    code = f"""
import os
import ptychostream as ps
store = ps.open_group_store({str(tiny_store.path)!r})
def epoch():
    loader = ps.make_loader(store, store.groups(1, 6), memory_budget=40_000)
    return sum(float(batch["diffraction"].sum()) for batch in loader)
expected = epoch()
child = os.fork()
if child == 0:
    os._exit(0 if epoch() == expected else 1)
raise SystemExit(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
"""
    done = subprocess.run([sys.executable, "-W", "ignore", "-c", code], timeout=120)
    assert done.returncode == 0
