"""Write scans into a store: aside, shard by shard, and published by one rename."""

import fcntl
import json
import logging
import os
import shutil
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ptychostream.datasets.sources import read_scan
from ptychostream.datasets.store.group_store import GroupStore, open_group_store
from ptychostream.datasets.store.layout import (
    ATTRIBUTES,
    DIFFRACTION,
    FORMAT_NAME,
    FORMAT_VERSION,
    MANIFEST,
    parse_bytes,
    pattern_codecs,
)
from ptychostream.datasets.store.manifest import Files, file_digest, list_files, write_manifest
from ptychostream.datasets.store.plan import BuildPlan, plan_build
from ptychostream.datasets.store.spool import random_access
from ptychostream.errors import DataContractError, PtychoStreamError, StoreExistsError
from ptychostream.scan import PatternSource, Scan

logger = logging.getLogger(__name__)

Source = Scan | str | Path


def build_group_store(
    sources: Source | Sequence[Source],
    path: str | Path,
    *,
    overwrite: bool = False,
    resume: bool = False,
    patterns_per_chunk: int | None = None,
    memory_budget: str | int = "1 GiB",
    progress: bool = True,
) -> GroupStore:
    """Turn scans into a group store.

    Each pattern is written once, along a Hilbert curve through the positions of its experiment,
    so that the members of a group share a chunk or two. The store is built in a hidden folder
    beside the target and appears under its name when complete; a build that was interrupted or
    killed goes on with `resume`, to the same bytes.

    Parameters
    ----------
    sources : Scan, path, or sequence of these
        One scan per experiment, all with the same N and measurement domain.
    path : str or Path
        Folder to make.
    overwrite : bool
        Whether an existing store of this name is replaced, once the new one is complete.
    resume : bool
        Whether to go on with an unfinished build of the same sources.
    patterns_per_chunk : int, optional
        Patterns that are compressed together; None makes chunks of about 2 MiB.
    memory_budget : str or int
        Memory for patterns in flight.
    progress : bool
        Whether to log each finished tenth.

    Returns
    -------
    GroupStore
        The finished store, opened.

    Raises
    ------
    StoreExistsError
        If the target exists and may not be replaced, or another process builds it.
    DataContractError
        If a source breaks its contract, or has values that no detector measures.
    """
    target = Path(path)
    listed = [sources] if isinstance(sources, Scan | str | Path) else list(sources)
    _check_target(target, overwrite=overwrite)
    scans = tuple(scan if isinstance(scan, Scan) else read_scan(scan) for scan in listed)
    plan = plan_build(scans, patterns_per_chunk)
    partial = target.with_name(f".{target.name}.partial")
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        with _sole_builder(partial):
            _prepare(partial, plan, resume=resume)
            try:
                files = _write_shards(partial, plan, parse_bytes(memory_budget), progress=progress)
            except DataContractError:
                shutil.rmtree(partial, ignore_errors=True)
                shutil.rmtree(_work(partial), ignore_errors=True)
                raise
            _write_tables(partial, plan)
            # It may have appeared while we were building.
            _check_target(target, overwrite=overwrite)
            _publish(partial, target, files)
    except OSError as error:
        if isinstance(error, PtychoStreamError):
            raise
        raise DataContractError(
            f"could not write the store '{target}': {error}; free space or choose another "
            "target, then build again with resume"
        ) from error
    return open_group_store(target)


def _check_target(target: Path, *, overwrite: bool) -> None:
    if not target.exists() and not target.is_symlink():
        return
    if not (target / MANIFEST).is_file():
        raise StoreExistsError(f"'{target}' exists and is not a group store; choose another name")
    if not overwrite:
        raise StoreExistsError(f"'{target}' exists; choose another name, or ask to overwrite")


@contextmanager
def _sole_builder(partial: Path) -> Iterator[None]:
    """Hold the lock of an unfinished store; the system frees it even when we are killed."""
    partial.mkdir(exist_ok=True)
    handle = os.open(partial, os.O_RDONLY)
    try:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            raise StoreExistsError(
                f"another process is building '{partial}'; wait for it, or stop it"
            ) from error
        yield
    finally:
        os.close(handle)


def _work(partial: Path) -> Path:
    """Folder for the records of an unfinished store, beside it; removed after publication."""
    return partial.with_name(f"{partial.name}.work")


def _prepare(partial: Path, plan: BuildPlan, *, resume: bool) -> None:
    import zarr

    record = _work(partial) / "fingerprint"
    if resume and record.is_file():
        if record.read_text() == plan.fingerprint():
            _remove_strays(partial)
            return
        raise DataContractError(
            f"'{partial}' was begun from other sources or options; resume with the same, or "
            "build without resume"
        )
    # The folder itself stays: it carries the lock.
    for entry in partial.iterdir():
        shutil.rmtree(entry) if entry.is_dir() else entry.unlink()
    shutil.rmtree(_work(partial), ignore_errors=True)
    _work(partial).mkdir()
    root = zarr.create_group(partial)
    root.create_array(
        DIFFRACTION,
        shape=plan.shape,
        dtype=plan.dtype,
        chunks=(plan.patterns_per_chunk, *plan.shape[1:]),
        shards=(plan.patterns_per_shard, *plan.shape[1:]),
        compressors=pattern_codecs(),
        # Zarr leaves out chunks of fill values unless told; a chunk left out is one lost.
        config={"write_empty_chunks": True},
        dimension_names=("pattern", "row", "column"),
    )
    # Last: a build without it has nothing that is worth resuming.
    record.write_text(plan.fingerprint())


def _remove_strays(partial: Path) -> None:
    """Delete what a killed build left half-written: all but recorded shards and metadata."""
    recorded = (json.loads(p.read_text())["name"] for p in _work(partial).glob("shard-*.json"))
    keep = {"zarr.json", f"{DIFFRACTION}/zarr.json", *recorded}
    for path in list(partial.rglob("*")):
        if path.is_file() and path.relative_to(partial).as_posix() not in keep:
            path.unlink()


def _write_shards(partial: Path, plan: BuildPlan, budget: int, *, progress: bool) -> Files:
    import zarr

    work = _work(partial)
    sources = [
        random_access(scan.patterns, work / f"patterns-{number}.raw")
        for number, scan in enumerate(plan.scans)
    ]
    array = zarr.open_array(
        partial, path=DIFFRACTION, mode="r+", config={"write_empty_chunks": True}
    )
    shard_bytes = plan.patterns_per_shard * plan.shape[1] ** 2 * plan.dtype.itemsize
    # Each writer holds a shard, its encoded form and a block being encoded.
    writers = max(1, min(os.cpu_count() or 1, budget // (3 * shard_bytes)))
    files: Files = {}
    pending = []
    for shard in range(plan.num_shards):
        done = _finished(work, shard, partial)
        if done:
            files.update(done)
        else:
            pending.append(shard)
    tenth = max(1, plan.num_shards // 10)
    pool = ThreadPoolExecutor(writers, thread_name_prefix="ptychostream-build")
    try:
        futures = [
            pool.submit(_write_shard, partial, array, plan, sources, shard) for shard in pending
        ]
        for future in as_completed(futures):
            files.update(future.result())
            if progress and len(files) % tenth == 0:
                logger.info("%d of %d shards written", len(files), plan.num_shards)
    finally:
        pool.shutdown(wait=True, cancel_futures=True)
    return files


def _write_shard(
    partial: Path, array: Any, plan: BuildPlan, sources: list[PatternSource], shard: int
) -> Files:
    start, stop = plan.shard_rows(shard)
    patterns, energy, looks = _gather(plan, sources, start, stop)
    array[start:stop] = patterns
    file = partial / DIFFRACTION / "c" / str(shard) / "0" / "0"
    _sync(file)
    size, digest = file_digest(file)
    work = _work(partial)
    np.save(work / f"energy-{shard}.npy", energy)
    name = file.relative_to(partial).as_posix()
    record = {
        "name": name,
        "size": size,
        "sha256": digest,
        **looks,
    }
    # Named last, by a rename: a record that exists is complete.
    unfinished = work / f"shard-{shard}.partial"
    unfinished.write_text(json.dumps(record))
    unfinished.replace(work / f"shard-{shard}.json")
    return {name: (size, digest)}


def _finished(work: Path, shard: int, partial: Path) -> Files:
    path = work / f"shard-{shard}.json"
    if not path.is_file():
        return {}
    record = json.loads(path.read_text())
    file = partial / record["name"]
    expected = (record["size"], record["sha256"])
    energy = work / f"energy-{shard}.npy"
    if not energy.is_file() or not file.is_file() or file_digest(file) != expected:
        return {}
    return {record["name"]: expected}


def _gather(
    plan: BuildPlan, sources: list[PatternSource], start: int, stop: int
) -> tuple[NDArray[Any], NDArray[np.float64], dict[str, bool]]:
    """Read a shard's patterns, and check them."""
    rows = plan.storage_order[start:stop]
    patterns = np.empty((stop - start, *plan.shape[1:]), plan.dtype)
    for number, source in enumerate(sources):
        first, last = plan.starts[number], plan.starts[number + 1]
        here = np.flatnonzero((rows >= first) & (rows < last))
        # Ascending rows are read fastest; small blocks bound what a reader holds.
        here = here[np.argsort(rows[here])]
        for part in np.array_split(here, max(1, -(-len(here) // plan.patterns_per_chunk))):
            if len(part):
                patterns[part] = source.read(rows[part] - first)
    scan_of_row = np.searchsorted(plan.starts, rows, side="right") - 1
    good = np.stack([_good_pixels(scan) for scan in plan.scans])[scan_of_row]
    valid = np.isfinite(patterns) & (patterns >= 0)
    # Detectors mark dead pixels with -1 or NaN; where they are flagged they carry nothing.
    patterns[~valid & ~good] = 0
    bad = np.flatnonzero(~(valid | ~good).all(axis=(1, 2)))
    if len(bad):
        row = rows[bad[0]]
        scan = plan.scans[scan_of_row[bad[0]]]
        worst = patterns[bad[0]].ravel()
        worst = worst[~(np.isfinite(worst) & (worst >= 0))][0]
        raise DataContractError(
            f"{scan.name}: pattern {row - plan.starts[scan_of_row[bad[0]]]} holds {worst}; "
            "patterns must be finite and not negative: flag such pixels in bad_pixels, or replace "
            "them first"
        )
    if plan.scans[0].measurement_domain == "counts":
        energy = patterns.sum(axis=(1, 2), dtype=np.float64, where=good)
        return patterns, energy, {"whole": True, "above_one": True}
    squared = np.square(patterns, dtype=np.float64)
    squared[~good] = 0
    whole = bool((np.abs(squared - np.rint(squared)) <= 0.01 + 1e-6 * squared).all())
    looks = {"whole": whole, "above_one": bool(squared.max() > 1)}
    return patterns, squared.sum(axis=(1, 2)), looks


def _good_pixels(scan: Scan) -> NDArray[np.bool_]:
    if scan.bad_pixels is None:
        return np.ones((scan.N, scan.N), bool)
    return ~scan.bad_pixels


def _write_tables(partial: Path, plan: BuildPlan) -> None:
    import zarr

    root = zarr.open_group(partial, mode="r+")
    scans, work = plan.scans, _work(partial)
    energy = np.empty(plan.shape[0])
    stored = [np.load(work / f"energy-{shard}.npy") for shard in range(plan.num_shards)]
    energy[plan.storage_order] = np.concatenate(stored)
    records = [
        json.loads((work / f"shard-{shard}.json").read_text()) for shard in range(plan.num_shards)
    ]
    whole = all(r["whole"] for r in records) and any(r["above_one"] for r in records)
    modes = max(len(scan.probe) for scan in scans)
    probes = np.zeros((len(scans), modes, *plan.shape[1:]), np.complex64)
    bad_pixels = np.zeros((len(scans), *plan.shape[1:]), bool)
    for number, scan in enumerate(scans):
        probes[number, : len(scan.probe)] = scan.probe
        if scan.bad_pixels is not None:
            bad_pixels[number] = scan.bad_pixels
        if scan.object_guess is not None:
            _save(root, f"object_guess/{number}", scan.object_guess.astype(np.complex64))
    _save(root, "storage_order", plan.storage_order)
    _save(root, "positions", _joined(scan.positions for scan in scans))
    starts = (s.positions if s.positions_start is None else s.positions_start for s in scans)
    _save(root, "positions_start", _joined(starts))
    index = (
        np.zeros(s.num_patterns, np.int64) if s.scan_index is None else s.scan_index for s in scans
    )
    _save(root, "scan_index", _joined(index))
    _save(root, "experiment_id", np.repeat(np.arange(len(scans)), np.diff(plan.starts)))
    _save(root, "energy", energy)
    _save(root, "probe", probes)
    _save(root, "bad_pixels", bad_pixels)
    root.attrs[ATTRIBUTES] = {
        "format": FORMAT_NAME,
        "version": list(FORMAT_VERSION),
        "measurement_domain": scans[0].measurement_domain,
        "whole_counts": whole,
        "patterns_per_chunk": plan.patterns_per_chunk,
        "probe_modes": [len(scan.probe) for scan in scans],
        "metadata": [asdict(scan.metadata) for scan in scans],
        "provenance": [scan.provenance for scan in scans],
    }


def _save(root: Any, name: str, values: NDArray[Any]) -> None:
    root.create_array(name, data=np.ascontiguousarray(values), overwrite=True)


def _joined(parts: Iterable[NDArray[Any]]) -> NDArray[Any]:
    return np.concatenate(list(parts))


def _publish(partial: Path, target: Path, files: Files) -> None:
    for name in list_files(partial):
        if name not in files:
            _sync(partial / name)
            files[name] = file_digest(partial / name)
    write_manifest(partial, files)
    _sync(partial / MANIFEST)
    old = target.with_name(f".{target.name}.replaced")
    shutil.rmtree(old, ignore_errors=True)
    if target.exists():
        target.replace(old)
    partial.replace(target)
    _sync(target.parent)
    shutil.rmtree(_work(partial), ignore_errors=True)
    shutil.rmtree(old, ignore_errors=True)


def _sync(path: Path) -> None:
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
