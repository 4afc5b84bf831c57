import signal
import subprocess
import sys
import time
from dataclasses import replace

import numpy as np
import pytest

import ptychostream as ps
from ptychostream.datasets.sources.npz import write_npz
from ptychostream.datasets.store.plan import plan_build
from ptychostream.errors import DataContractError, StorageError, StoreExistsError
from ptychostream.scan import ArrayPatterns


def _with_patterns(scan, values):
    return replace(scan, patterns=ArrayPatterns(values))


def _bytes_of(folder):
    return {
        path.relative_to(folder).as_posix(): path.read_bytes()
        for path in folder.rglob("*")
        if path.is_file()
    }


def test_store_holds_each_pattern_once_in_acquisition_order(tiny_scan, tiny_store):
    every = np.arange(64)
    np.testing.assert_array_equal(tiny_store.diffraction(every), tiny_scan.patterns.read(every))
    assert tiny_store.segments[0].array.shape == (64, 16, 16)
    assert tiny_store.dtype == tiny_scan.patterns.dtype
    np.testing.assert_array_equal(tiny_store.positions, tiny_scan.positions)
    np.testing.assert_array_equal(tiny_store.probe[0], tiny_scan.probe)
    np.testing.assert_array_equal(tiny_store.object_guess, tiny_scan.object_guess)
    counts = tiny_scan.patterns.read(every).sum(axis=(1, 2))
    np.testing.assert_allclose(tiny_store.total_counts, counts)


@pytest.mark.parametrize("compress", [True, False])
def test_files_and_scans_give_the_same_patterns(tiny_scan, tiny_store, tmp_path, compress):
    write_npz(tiny_scan, tmp_path / "scan.npz", compress=compress)
    store = ps.build_group_store(tmp_path / "scan.npz", tmp_path / "s.zarr", patterns_per_chunk=8)
    every = np.arange(64)
    np.testing.assert_array_equal(store.diffraction(every), tiny_store.diffraction(every))
    assert sorted(p.name for p in tmp_path.iterdir()) == ["s.zarr", "scan.npz"]


def test_experiments_keep_their_own_probe_and_rows(two_experiments):
    assert two_experiments.num_experiments == 2
    assert np.bincount(two_experiments.experiment_id).tolist() == [20, 31]
    assert not np.allclose(two_experiments.probe[0], two_experiments.probe[1])
    assert two_experiments.object_guess_of(0).shape != two_experiments.object_guess_of(1).shape
    with pytest.raises(DataContractError, match="2 experiments"):
        _ = two_experiments.object_guess


def test_a_store_can_be_built_from_a_store(tiny_store, tmp_path):
    again = ps.build_group_store(tiny_store.scan(), tmp_path / "again.zarr", patterns_per_chunk=8)
    mine, theirs = (_bytes_of(p / "diffraction") for p in (again.path, tiny_store.path))
    assert mine == theirs


@pytest.mark.parametrize(
    ("row", "value"), [(0, np.nan), (63, np.inf), (17, -1.0)], ids=["nan", "inf", "negative"]
)
def test_values_that_no_detector_measures_leave_nothing_behind(tiny_scan, tmp_path, row, value):
    values = tiny_scan.patterns.read(np.arange(64)).astype(np.float32)
    values[row, 3, 4] = value
    with pytest.raises(DataContractError, match=f"pattern {row} holds {value}"):
        ps.build_group_store(_with_patterns(tiny_scan, values), tmp_path / "s.zarr")
    assert list(tmp_path.iterdir()) == []


def test_scans_that_differ_in_size_or_domain_are_refused(tiny_scan, tmp_path):
    other = ps.simulate_scan(num_positions=9, N=32)
    with pytest.raises(DataContractError, match="16 px but .* 32 px"):
        ps.build_group_store([tiny_scan, other], tmp_path / "s.zarr")
    with pytest.raises(DataContractError, match="counts but .* amplitude"):
        ps.build_group_store(
            [tiny_scan, replace(tiny_scan, measurement_domain="amplitude")], tmp_path / "s.zarr"
        )
    with pytest.raises(DataContractError, match="no scan"):
        ps.build_group_store([], tmp_path / "s.zarr")


def test_an_existing_target_is_replaced_only_when_asked_and_only_a_store(tiny_scan, tmp_path):
    target = tmp_path / "s.zarr"
    ps.build_group_store(tiny_scan, target)
    with pytest.raises(StoreExistsError, match="overwrite"):
        ps.build_group_store(tiny_scan, target)
    assert ps.build_group_store(tiny_scan, target, overwrite=True).num_patterns == 64
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "thesis.tex").write_text("years of work")
    with pytest.raises(StoreExistsError, match="not a group store"):
        ps.build_group_store(tiny_scan, tmp_path / "mine", overwrite=True)
    assert (tmp_path / "mine" / "thesis.tex").exists()


SLOW_BUILD = """
import sys, time
import numpy as np
import ptychostream as ps
from ptychostream.scan import ArrayPatterns
class Slow(ArrayPatterns):
    def read(self, rows):
        time.sleep(0.02)
        return super().read(rows)
scan = ps.simulate_scan(num_positions=300, N=16, step=2.5, seed=3)
object.__setattr__(scan, "patterns", Slow(scan.patterns.read(np.arange(300))))
ps.build_group_store(scan, sys.argv[1], patterns_per_chunk=4, resume="resume" in sys.argv)
"""


def test_a_killed_build_is_resumed_to_the_same_bytes(tmp_path):
    run = [sys.executable, "-c", SLOW_BUILD]
    subprocess.run([*run, str(tmp_path / "whole.zarr")], check=True)
    target = tmp_path / "killed.zarr"
    work = tmp_path / ".killed.zarr.partial.work"
    build = subprocess.Popen([*run, str(target)])
    deadline = time.monotonic() + 60
    while not list(work.glob("shard-*.json")) and time.monotonic() < deadline:
        time.sleep(0.005)
    build.send_signal(signal.SIGKILL)
    build.wait()
    assert not target.exists()
    done = len(list(work.glob("shard-*.json")))
    assert 0 < done < 5
    # What zarr leaves when it is killed in the middle of a file.
    (tmp_path / ".killed.zarr.partial" / "diffraction" / "c" / "0.partial").write_bytes(b"half")
    subprocess.run([*run, str(target), "resume"], check=True)
    assert _bytes_of(target) == _bytes_of(tmp_path / "whole.zarr")
    assert sorted(p.name for p in tmp_path.iterdir()) == ["killed.zarr", "whole.zarr"]


def test_a_build_that_is_complete_has_nothing_to_resume(tiny_scan, tmp_path):
    scan = replace(tiny_scan, provenance={"file": "scan.npz"})
    target = tmp_path / "s.zarr"
    ps.build_group_store(scan, target, resume=True)
    before = _bytes_of(target)
    assert ps.build_group_store(scan, target, resume=True).num_patterns == 64
    assert _bytes_of(target) == before
    moved = replace(scan, positions=scan.positions + 1)
    mask = np.zeros((16, 16), bool)
    mask[0, 0] = True
    others = (
        moved,
        replace(scan, provenance={"file": "other.npz"}),
        tiny_scan.select([0, 1]),
        replace(scan, measurement_domain="amplitude"),
        replace(scan, probe=2 * scan.probe),
        replace(scan, bad_pixels=mask),
        replace(scan, object_guess=None),
        replace(scan, positions_start=scan.positions + 1),
        replace(scan, scan_index=np.arange(64) + 1),
        replace(scan, metadata=replace(scan.metadata, energy_eV=9e3)),
    )
    for other in others:
        with pytest.raises(StoreExistsError, match="exists"):
            ps.build_group_store(other, target, resume=True)
    with pytest.raises(StoreExistsError, match="exists"):
        ps.build_group_store(scan, target, resume=True, patterns_per_chunk=3)


def test_overwriting_beside_resume_builds_a_complete_store_anew(tiny_scan, tmp_path):
    scan = replace(tiny_scan, provenance={"file": "scan.npz"})
    ps.build_group_store(scan, tmp_path / "s.zarr")
    brighter = replace(scan, patterns=ArrayPatterns(scan.patterns.read(np.arange(64)) + 1))
    store = ps.build_group_store(brighter, tmp_path / "s.zarr", resume=True, overwrite=True)
    np.testing.assert_allclose(
        store.total_counts.sum(), brighter.patterns.read(np.arange(64)).sum()
    )


def test_resume_refuses_other_sources(tiny_scan, tmp_path):
    work = tmp_path / ".s.zarr.partial.work"
    work.mkdir(parents=True)
    (work / "fingerprint").write_text("another build's")
    with pytest.raises(DataContractError, match="other sources"):
        ps.build_group_store(tiny_scan, tmp_path / "s.zarr", resume=True)


def test_a_second_builder_of_the_same_target_is_refused(tiny_scan, tmp_path):
    target = tmp_path / "s.zarr"
    first = subprocess.Popen([sys.executable, "-c", SLOW_BUILD, str(target)])
    deadline = time.monotonic() + 60
    while not (tmp_path / ".s.zarr.partial").exists() and time.monotonic() < deadline:
        time.sleep(0.005)
    with pytest.raises(StoreExistsError, match="another process is building"):
        ps.build_group_store(tiny_scan, target)
    assert first.wait() == 0
    assert ps.open_group_store(target).num_patterns == 300


def test_a_target_that_cannot_be_written_is_named(tiny_scan, tmp_path):
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(StorageError, match=r"could not write .*s\.zarr"):
        ps.build_group_store(tiny_scan, tmp_path / "file" / "s.zarr")


@pytest.mark.parametrize("mark", [-1.0, np.nan, 2.0**32 - 1])
def test_flagged_pixels_count_for_nothing_whatever_they_hold(tiny_scan, tmp_path, mark):
    values = tiny_scan.patterns.read(np.arange(64)).astype(np.float64)
    mask = np.zeros((16, 16), bool)
    mask[3, 4] = mask[8, 8] = True
    marked = values.copy()
    marked[:, mask] = mark
    scan = replace(_with_patterns(tiny_scan, marked), bad_pixels=mask)
    store = ps.build_group_store(scan, tmp_path / "s.zarr")
    values[:, mask] = 0
    np.testing.assert_allclose(store.total_counts, values.sum(axis=(1, 2)))
    batch = next(iter(ps.make_loader(store, store.groups(1), batch_size=64, shuffle=False)))
    np.testing.assert_allclose(batch["diffraction"][:, 0], np.sqrt(values), rtol=1e-6)


def test_whole_counts_do_not_depend_on_the_chunks(tiny_scan, tmp_path):
    values = np.sqrt(tiny_scan.patterns.read(np.arange(64)), dtype=np.float32)
    values[:16] = 0
    scan = replace(_with_patterns(tiny_scan, values), measurement_domain="amplitude")
    for length in (1, 64):
        store = ps.build_group_store(scan, tmp_path / f"{length}.zarr", patterns_per_chunk=length)
        assert store.has_photon_counts


def test_what_appears_under_the_target_meanwhile_is_kept(tiny_scan, tmp_path):
    target = tmp_path / "s.zarr"

    class Slow(ArrayPatterns):
        def read(self, rows):
            target.mkdir(exist_ok=True)
            (target / "precious.txt").write_text("mine")
            return super().read(rows)

    scan = replace(tiny_scan, patterns=Slow(tiny_scan.patterns.read(np.arange(64))))
    with pytest.raises(StoreExistsError, match="not a group store"):
        ps.build_group_store(scan, target)
    assert (target / "precious.txt").read_text() == "mine"


def test_resume_refuses_a_file_that_was_written_anew(tiny_scan, tmp_path):
    values = tiny_scan.patterns.read(np.arange(64))
    first, second = (plan_build((_with_patterns(tiny_scan, v),), 8) for v in (values, values + 7))
    assert first.fingerprint() != second.fingerprint()
