"""Kill each writer before every change that it makes to the file system."""

import os
import shutil
import signal
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

from fuzz.readers import READERS, Whole, read_store
from fuzz.trials import attempt

import ptychostream as ps
from ptychostream.datasets.store import append_patterns

#: Events of Python that change the file system; the first argument is a path.
_CHANGES = {"os.rename", "os.remove", "os.rmdir", "os.mkdir", "os.link", "os.truncate"}


class Writer(NamedTuple):
    """Something that writes `target`, where an old one may lie, and how the target is read."""

    write: Callable[[Path, Whole], None]
    read: Callable[[Path], str]
    ending: str
    begin: Callable[[Path, Whole], None] | None = None


def _old_file(path: Path, whole: Whole) -> None:
    path.write_bytes(b"old")


def _read_file(path: Path) -> str:
    return path.read_bytes().hex()


def _overwrite(path: Path, whole: Whole) -> None:
    ps.build_group_store(
        whole.scan, path, patterns_per_chunk=6, overwrite=True, resume=False, progress=False
    )


def _append(path: Path, whole: Whole) -> None:
    append_patterns(path, ps.simulate_scan(num_positions=8, N=16, step=2.5, seed=3, nphotons=1e5))


def _growing(path: Path, whole: Whole) -> None:
    ps.build_group_store(whole.scan, path, patterns_per_chunk=8, growing=True, progress=False)


def _old_store(path: Path, whole: Whole) -> None:
    READERS["group store"].write(path, whole)


def _build(path: Path, whole: Whole) -> None:
    ps.build_group_store(whole.scan, path, patterns_per_chunk=8, resume=True, progress=False)


WRITERS = {
    "export to NPZ": Writer(READERS["NPZ"].write, _read_file, "npz", _old_file),
    "export to HDF5": Writer(READERS["ptychodus training data"].write, _read_file, "h5", _old_file),
    "save a model": Writer(
        lambda path, whole: whole_archive(path, whole), _read_file, "zip", _old_file
    ),
    "save a checkpoint": Writer(READERS["checkpoint"].write, _read_file, "ckpt", _old_file),
    "build": Writer(_build, read_store, "zarr"),
    "build --overwrite": Writer(_overwrite, read_store, "zarr", _old_store),
    "append": Writer(_append, read_store, "zarr", _growing),
}


def whole_archive(path: Path, whole: Whole) -> None:
    from ptychostream.persistence.archive import write_archive

    write_archive(whole.bundle, path)


def kill_at(number: int, folder: Path, function: Callable[[], None]) -> Callable[[], str]:
    """Make a function that is killed before its change of this number in a folder."""

    def run() -> str:
        seen = 0

        def count(event: str, arguments: tuple[Any, ...]) -> None:
            nonlocal seen
            if event == "open":
                path, _, flags = arguments
                changes = bool(flags & (os.O_WRONLY | os.O_RDWR | os.O_CREAT))
            else:
                path, changes = arguments[0] if arguments else None, event in _CHANGES
            if not changes or not isinstance(path, str | bytes | os.PathLike):
                return
            if str(folder) in os.fsdecode(path):
                seen += 1
                if seen == number:
                    os.kill(os.getpid(), signal.SIGKILL)

        sys.addaudithook(count)
        function()
        return "done"

    return run


def try_writer(
    name: str, whole: Whole, folder: Path, *, step: int = 1, first: int = 1
) -> tuple[int, list[str], float]:
    """Kill a writer at every `step`th change; return the kills, what went wrong, and the slowest.

    After a kill the target must be what it was or what it becomes; the next run must make it, and
    leave nothing else.
    """
    writer = WRITERS[name]
    target = folder / f"target.{writer.ending}"

    def clear() -> None:
        for path in folder.iterdir():
            shutil.rmtree(path) if path.is_dir() else path.unlink()
        if writer.begin is not None:
            writer.begin(target, whole)

    def state() -> str:
        return writer.read(target) if target.exists() else "nothing"

    clear()
    before = state()
    writer.write(target, whole)
    after = state()
    left = sorted(path.name for path in folder.iterdir())
    wrong, kills, slowest = [], 0, 0.0
    for number in range(first, 10_000, step):
        clear()
        ending = attempt(kill_at(number, folder, lambda: writer.write(target, whole)))
        slowest = max(slowest, ending.seconds)
        if ending.kind == "returned":
            break
        if ending.kind != "crashed":
            wrong.append(f"{name}, change {number}: {ending.kind} {ending.text}")
            continue
        kills += 1
        try:
            found = state()
        except Exception as error:
            found = f"unreadable: {error}"
        if found not in (before, after):
            wrong.append(f"{name}, killed before change {number}: the target is {found[:200]}")
        # The very next run.
        ending = attempt(lambda: (writer.write(target, whole), "done")[1])
        if ending.kind != "returned" and found != after:
            wrong.append(f"{name}, rerun after {number}: {ending.kind} {ending.text}")
        elif state() != after and found != after:
            wrong.append(f"{name}, rerun after {number} made something else")
        elif (names := sorted(path.name for path in folder.iterdir())) != left:
            wrong.append(f"{name}, after {number} there are {names}")
    return kills, wrong, slowest
