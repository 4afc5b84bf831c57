"""Write a segment: its shards, its tables, and the manifest that makes it appear.

Building, appending and compacting each write one.
"""

import logging
import os
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from contextlib import contextmanager
from dataclasses import asdict
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ptychostream.cluster import run_on_cluster
from ptychostream.datasets.large_tables import joined_rows
from ptychostream.datasets.store.manifest import Files, manifest_bytes
from ptychostream.datasets.store.plan import StoreLayout
from ptychostream.datasets.store.shard_writer import ShardJob, ShardRecord
from ptychostream.datasets.store.spool import uncompressed_copy
from ptychostream.datasets.store.storage import StoreFiles, copy_files
from ptychostream.datasets.store.tables import encoded_pattern_metadata, encoded_tables
from ptychostream.errors import (
    MissingFileError,
    StorageError,
    StoreExistsError,
)
from ptychostream.scan import Scan

logger = logging.getLogger(__name__)


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
        written = _on_cluster(client, job, pending)
    for shard, record in written:
        records[shard] = record
        done += 1
        if progress and done % tenth == 0:
            logger.info("%d of %d shards written", done, plan.num_shards)
    return [record for record in records.values() if record is not None]


def _on_cluster(
    client: Any, job: ShardJob, pending: list[int]
) -> Iterator[tuple[int, ShardRecord]]:
    # Scattered: the tables of a large scan are megabytes. Waits: tasks that still run would write
    # into a folder that is being cleared.
    then = "build again with --resume (resume=True)"
    return run_on_cluster(
        client, ShardJob.write, job, pending, then=then, scatters=True, waits=True
    )


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
    positions = joined_rows([scan.positions for scan in scans])
    tables = {
        "storage_order": job.plan.storage_order,
        "positions": positions,
        "positions_start": joined_rows(starts),
        "scan_index": joined_rows(index),
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
    patterns = encoded_pattern_metadata(
        plan.shape,
        plan.dtype,
        patterns_per_chunk=plan.patterns_per_chunk,
        patterns_per_shard=plan.patterns_per_shard,
    )
    small = chain(encoded_tables(tables, attributes), patterns.items())
    for name, size, digest in copy_files(small, storage):
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
