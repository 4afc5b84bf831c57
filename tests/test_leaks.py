"""What is done again and again leaves nothing open, no thread, no file and no memory behind."""

import contextlib
import gc
import os
import shutil
import tempfile
import threading
from pathlib import Path

import pytest

import ptychostream as ps
from ptychostream.errors import PtychoStreamError
from ptychostream.files import whole_file
from ptychostream.hdf5_files import whole_hdf5
from ptychostream.locks import owned

#: Times that each is done.
TIMES = int(os.environ.get("PTYCHOSTREAM_LEAK_TIMES", "40"))

#: Bytes that the memory of a process may vary by itself.
_NOISE = 24 * 2**20


def open_store(store, folder):
    assert ps.open_group_store(store.path).diffraction([3]).any()


def leave_a_loader(store, folder):
    for _ in ps.make_loader(store, store.groups(1), batch_size=5, memory_budget="8 KiB"):
        break


def fail_in_a_loader(store, folder):
    with contextlib.suppress(ZeroDivisionError):
        for number, _ in enumerate(
            ps.make_loader(store, store.groups(1), batch_size=5, memory_budget="8 KiB")
        ):
            1 // (1 - number)


def open_a_damaged_store(store, folder):
    copy = folder / "damaged.zarr"
    if not copy.exists():
        shutil.copytree(store.path, copy)
        (copy / "positions" / "zarr.json").write_bytes(b"{")
    with pytest.raises(PtychoStreamError):
        ps.open_group_store(copy)


def fail_to_write(store, folder):
    for writer in (whole_file, whole_hdf5):
        with pytest.raises(KeyError), writer(folder / "file"):
            raise KeyError


def own_a_folder(store, folder):
    with owned(folder, "busy"), contextlib.suppress(PtychoStreamError), owned(folder, "busy"):
        raise AssertionError


def build_and_append(store, folder):
    scan = store.scan()
    half = scan.select(range(32))
    ps.build_group_store(half, folder / "s.zarr", overwrite=True, growing=True, progress=False)
    ps.append_patterns(folder / "s.zarr", scan.select(range(32, 64)))


def reconstruct(store, folder):
    ps.reconstruct(store, passes=1, checks_fit=False, scratch_folder=folder)


@pytest.mark.parametrize(
    ("act", "part"),
    [
        (open_store, 1),
        (leave_a_loader, 1),
        (fail_in_a_loader, 1),
        (open_a_damaged_store, 1),
        (fail_to_write, 1),
        (own_a_folder, 1),
        (build_and_append, 0.1),
        (reconstruct, 0.03),
    ],
)
def test_nothing_is_left_behind(tiny_store, tmp_path, monkeypatch, act, part):
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "tmp"))
    (tmp_path / "tmp").mkdir()
    (tmp_path / "work").mkdir()
    for _ in range(4):
        act(tiny_store, tmp_path / "work")
    before = _held(tmp_path)
    for _ in range(max(3, int(part * TIMES))):
        act(tiny_store, tmp_path / "work")
    after = _held(tmp_path)
    assert after["memory"] - before["memory"] < _NOISE
    assert after["descriptors"] <= before["descriptors"]
    assert after["threads"] <= before["threads"]
    assert after["files"] == before["files"]


def _held(folder):
    gc.collect()
    files = {str(p) for p in folder.rglob("*") if p.is_file() and "zarr/" not in str(p)}
    statm = Path("/proc/self/statm")
    pages = int(statm.read_text().split()[1]) if statm.exists() else 0
    # Others' threads and files are counted, too: nothing else runs in this process.
    listed = Path("/dev/fd")
    descriptors = set(listed.iterdir()) if listed.is_dir() else set()
    return {
        "descriptors": len(descriptors),
        "threads": sum(not each.name.startswith("asyncio") for each in threading.enumerate()),
        "files": files,
        "memory": pages * 4096,
    }
