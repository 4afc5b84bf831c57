"""Build a store from scans: shard by shard in a hidden folder, renamed when complete."""

import logging
import os
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from contextlib import contextmanager
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ptychostream.datasets.sources.chosen_probe import ProbeFinder
from ptychostream.datasets.sources.options import InputOptions
from ptychostream.datasets.sources.survey import UnflaggedValuesError
from ptychostream.datasets.store.cluster import connected, write_on_cluster
from ptychostream.datasets.store.format import FORMAT_NAME, FORMAT_VERSION, MANIFEST
from ptychostream.datasets.store.group_store import GroupStore, open_group_store
from ptychostream.datasets.store.manifest import Files, manifest_bytes
from ptychostream.datasets.store.plan import StoreLayout, plan_build
from ptychostream.datasets.store.plausibility import doubtful_patterns, warn_if_corner_centred
from ptychostream.datasets.store.scans import scans_from
from ptychostream.datasets.store.shard_writer import ShardJob, ShardRecord
from ptychostream.datasets.store.spool import uncompressed_copy
from ptychostream.datasets.store.staging import StagedStore
from ptychostream.datasets.store.storage import StoreFiles, copy_files, open_location
from ptychostream.datasets.store.tables import encoded_pattern_metadata, encoded_tables
from ptychostream.errors import (
    DataContractError,
    MissingFileError,
    StorageError,
    StoreExistsError,
)
from ptychostream.memory import parse_bytes
from ptychostream.scan import Scan

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
    growing: bool = False,
    cluster: Any = None,
    options: InputOptions | None = None,
    find_probe: ProbeFinder | None = None,
) -> GroupStore:
    """Turn scans into a group store.

    Each pattern is written once, along a Hilbert curve through the positions of its experiment,
    so that the members of a group share a chunk or two. The store is built in a hidden folder
    beside the target and appears under its name when complete; a build that was interrupted or
    killed goes on with `resume`, to the same bytes.

    Parameters
    ----------
    sources : Scan, path, or sequence of these
        One scan per experiment, all with the same N and measurement domain; a path may be a
        store, or a folder of scan files, with several.
    path : str or Path
        Folder to make, or a URL that fsspec knows.
    overwrite : bool
        Whether an existing store of this name is replaced, once the new one is complete, and an
        unfinished one begun anew.
    resume : bool
        Whether to go on with an unfinished build of the same sources.
    patterns_per_chunk : int, optional
        Patterns that are compressed together; None makes chunks of about 2 MiB.
    memory_budget : str or int
        Memory for patterns in flight.
    progress : bool
        Whether to log each finished tenth.
    growing : bool
        Whether more patterns will be appended: those who follow the store wait for them until
        `finish_group_store`.
    cluster : distributed.Client or str, optional
        Dask cluster, or its scheduler's address, that writes the shards; its workers must reach
        sources and target under the same names.
    options : InputOptions, optional
        How sources that are paths are read, completed and changed.
    find_probe : callable, optional
        Makes the probe of `InputOptions(probe="from_patterns")`, from a scan and the options.

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
    StorageError
        If the target can't be written to.
    """
    listed = [sources] if isinstance(sources, Scan | str | Path) else list(sources)
    chosen = options or InputOptions()
    arguments: dict[str, Any] = {
        "overwrite": overwrite,
        "resume": resume,
        "patterns_per_chunk": patterns_per_chunk,
        "memory_budget": memory_budget,
        "progress": progress,
        "growing": growing,
        "cluster": cluster,
        "find_probe": find_probe,
    }
    try:
        return _build(listed, path, options=chosen, **arguments)
    except UnflaggedValuesError as error:
        if chosen.look == "all" or any(isinstance(source, Scan) for source in listed):
            raise
        logger.info("%s", error)
        return _build(listed, path, options=replace(chosen, look="all"), **arguments)


def _build(
    listed: list[Source],
    path: str | Path,
    *,
    options: InputOptions,
    overwrite: bool,
    resume: bool,
    patterns_per_chunk: int | None,
    memory_budget: str | int,
    progress: bool,
    growing: bool,
    cluster: Any,
    find_probe: ProbeFinder | None,
) -> GroupStore:
    staged = StagedStore(open_location(path))
    if not resume:
        # Checked before anything is read; the store of a resumed build may be complete already.
        staged.check_target(overwrite=overwrite)
    paths = [source for source in listed if not isinstance(source, Scan)]
    scans: tuple[Scan, ...]
    if len(paths) == len(listed):
        scans = tuple(scans_from(paths, options, find_probe=find_probe))
    else:
        scans = tuple(
            scan
            for source in listed
            for scan in (
                [source]
                if isinstance(source, Scan)
                else scans_from(source, options, find_probe=find_probe)
            )
        )
    plan = plan_build(scans, patterns_per_chunk)
    if resume and not overwrite and (complete := _complete(staged.target, plan)):
        logger.info("'%s' is complete already: nothing is left to build", path)
        return complete
    staged.check_target(overwrite=overwrite)
    fingerprint = plan.fingerprint()
    head = {**_head(plan), "growing": growing, "fingerprint": fingerprint}
    head["warnings"] = [
        sentence for scan in scans for sentence in (*warn_if_corner_centred(scan), *_named(scan))
    ]
    with connected(cluster) as client, storage_errors(staged.target), staged.lock() as scratch:
        staged.start_or_resume(fingerprint, resume=resume, overwrite=overwrite)
        try:
            job = ShardJob(staged, plan, readable_sources(plan, scratch, shared=client is not None))
            records = write_shards(
                job, parse_bytes(memory_budget), progress=progress, client=client
            )
        except DataContractError:
            # The input is invalid, so a resumed build would fail too: clean up.
            staged.abandon()
            raise
        tables = {
            **segment_tables(job),
            **experiment_tables(plan.scans, range(len(plan.scans))),
            "experiment_id": np.repeat(np.arange(len(plan.scans)), np.diff(plan.starts)),
        }
        head["warnings"] += doubtful_patterns(scans, tables["energy"])
        # The target may have appeared while we were building.
        staged.check_target(overwrite=overwrite)
        publish_segment(job, tables, {**head, "whole_counts": _are_whole(records)}, records)
    return open_group_store(path)


def _complete(target: StoreFiles, plan: StoreLayout) -> GroupStore | None:
    """Open the store if an earlier run of the same build completed it."""
    if not target.has(MANIFEST):
        return None
    store = open_group_store(str(target))
    # Without a provenance, two scans can't be told apart.
    known = all(scan.provenance for scan in plan.scans)
    same = known and store.attributes.get("fingerprint") == plan.fingerprint()
    return store if same else None


@contextmanager
def storage_errors(target: StoreFiles, then: str = "build again with resume") -> Iterator[None]:
    """Turn errors of the system into a StorageError that says what to do.

    Raises
    ------
    StorageError
        If it can't be: the disk is full, the folder read-only, the network down.
    """
    try:
        yield
    except OSError as error:
        if isinstance(error, StoreExistsError | MissingFileError):
            raise
        raise StorageError(
            f"could not write the store '{target}': {error}; free space or make it writable, "
            f"then {then}"
        ) from error


def readable_sources(plan: StoreLayout, scratch: Path, *, shared: bool) -> tuple[Any, ...]:
    """Make the patterns of all experiments readable in any order.

    Parameters
    ----------
    scratch : Path
        Folder for copies of patterns that can only be read from first to last.
    shared : bool
        Whether other processes read them: patterns in memory are then copied, too.
    """
    for scan in plan.scans:
        scan.patterns.check()
    return tuple(
        uncompressed_copy(scan.patterns, scratch / f"patterns-{number}.raw", shared=shared)
        for number, scan in enumerate(plan.scans)
    )


def write_shards(
    job: ShardJob, budget: int, *, progress: bool = False, client: Any = None
) -> list[ShardRecord]:
    """Write all shards that are not there yet.

    Parameters
    ----------
    client : distributed.Client, optional
        Its cluster writes them instead of threads of this process, and bounds the memory.
    """
    plan = job.plan
    records = {shard: job.finished(shard) for shard in range(plan.num_shards)}
    kept = {record.name for record in records.values() if record is not None}
    job.staged.remove_strays(kept)
    pending = [shard for shard, record in records.items() if record is None]
    tenth = max(1, plan.num_shards // 10)
    done = plan.num_shards - len(pending)
    if client is None:
        written = _in_threads(job, pending, budget)
    else:
        written = write_on_cluster(client, job, pending)
    for shard, record in written:
        records[shard] = record
        done += 1
        if progress and done % tenth == 0:
            logger.info("%d of %d shards written", done, plan.num_shards)
    return [record for record in records.values() if record is not None]


def _in_threads(
    job: ShardJob, pending: list[int], budget: int
) -> Iterator[tuple[int, ShardRecord]]:
    plan = job.plan
    shard_bytes = plan.patterns_per_shard * plan.shape[1] ** 2 * plan.dtype.itemsize
    # Each writer holds a shard, its chunks as encoded, and these joined.
    writers = max(1, min(os.cpu_count() or 1, budget // (3 * shard_bytes)))
    pool = ThreadPoolExecutor(writers, thread_name_prefix="ptychostream-build")
    try:
        futures = {pool.submit(job.write, shard): shard for shard in pending}
        for future in as_completed(futures):
            yield futures[future], future.result()
    finally:
        pool.shutdown(wait=True, cancel_futures=True)


def segment_tables(job: ShardJob) -> dict[str, NDArray[Any]]:
    """Collect what was measured at each pattern."""
    scans = job.plan.scans
    starts = [s.positions if s.positions_start is None else s.positions_start for s in scans]
    index = [
        np.zeros(s.num_patterns, np.int64) if s.scan_index is None else s.scan_index for s in scans
    ]
    positions = np.concatenate([scan.positions for scan in scans])
    tables = {
        "storage_order": job.plan.storage_order,
        "positions": positions,
        "positions_start": np.concatenate(starts),
        "scan_index": np.concatenate(index),
        "energy": job.energies(),
    }
    if np.array_equal(positions, tables["positions_start"]):
        # Stored only where it differs: at a URL each table is some requests.
        del tables["positions_start"]
    return tables


def publish_segment(
    job: ShardJob,
    tables: dict[str, NDArray[Any]],
    attributes: dict[str, Any],
    records: list[ShardRecord],
    *,
    keeps_readers: bool = False,
) -> None:
    """Write the tables and the manifest, and make the segment appear."""
    plan, storage = job.plan, job.staged.storage
    files: Files = {record.name: (record.size, record.sha256) for record in records}
    small = encoded_tables(tables, attributes) | encoded_pattern_metadata(
        plan.shape,
        plan.dtype,
        patterns_per_chunk=plan.patterns_per_chunk,
        patterns_per_shard=plan.patterns_per_shard,
    )
    for name, size, digest in copy_files(small.items(), storage):
        files[name] = (size, digest)
    job.staged.publish(manifest_bytes(files), keeps_readers=keeps_readers)


def experiment_tables(scans: Sequence[Scan], numbers: Sequence[int]) -> dict[str, NDArray[Any]]:
    """Collect what belongs to each experiment; `numbers` name their objects."""
    modes = max(len(scan.probe) for scan in scans)
    edge = scans[0].N
    probes = np.zeros((len(scans), modes, edge, edge), np.complex64)
    bad_pixels = np.zeros((len(scans), edge, edge), bool)
    tables: dict[str, NDArray[Any]] = {}
    for at, (number, scan) in enumerate(zip(numbers, scans, strict=True)):
        probes[at, : len(scan.probe)] = scan.probe
        if scan.bad_pixels is not None:
            bad_pixels[at] = scan.bad_pixels
        if scan.object_guess is not None:
            tables[f"object_guess/{number}"] = scan.object_guess.astype(np.complex64)
    return tables | {"probe": probes, "bad_pixels": bad_pixels}


def experiment_attributes(scans: Sequence[Scan]) -> dict[str, Any]:
    """Collect what is known about each experiment, as JSON."""
    return {
        "probe_modes": [len(scan.probe) for scan in scans],
        "metadata": [asdict(scan.metadata) for scan in scans],
        "provenance": [scan.provenance for scan in scans],
    }


def _head(plan: StoreLayout) -> dict[str, Any]:
    return {
        "format": FORMAT_NAME,
        "version": list(FORMAT_VERSION),
        "measurement_domain": plan.scans[0].measurement_domain,
        "patterns_per_chunk": plan.patterns_per_chunk,
        **experiment_attributes(plan.scans),
    }


def _named(scan: Scan) -> list[str]:
    return [f"{scan.name}: {sentence}" for sentence in scan.warnings]


def _are_whole(records: list[ShardRecord]) -> bool:
    return all(r.whole for r in records) and any(r.above_one for r in records)
