"""Rewrite a grown store with all patterns in one order."""

from pathlib import Path

import numpy as np

from ptychostream.datasets.store.append import sole_appender, stored_runs
from ptychostream.datasets.store.format import FINISHED, FORMAT_VERSION
from ptychostream.datasets.store.group_store import GroupStore, open_group_store
from ptychostream.datasets.store.manifest import manifest_digest
from ptychostream.datasets.store.plan import plan_build
from ptychostream.datasets.store.shard_writer import ShardJob
from ptychostream.datasets.store.staging import StagedStore, remove_replaced
from ptychostream.datasets.store.storage import open_location
from ptychostream.datasets.store.written_segment import (
    experiment_tables,
    publish_segment,
    readable_sources,
    segment_tables,
    storage_errors,
    write_shards,
)
from ptychostream.errors import StorageError
from ptychostream.memory import parse_bytes


def compact_group_store(
    path: str | Path, *, memory_budget: str | int = "1 GiB", progress: bool = False
) -> GroupStore:
    """Write all segments of a store as one, as if its patterns had been built at once.

    The compacted store is built aside and takes the store's name when it is complete. Rows keep
    their numbers; who follows the store goes on, and who has it open reads the old files, which
    are removed when nobody reads them any more.

    Parameters
    ----------
    path : str or Path
        The store's folder; stores at a URL are not replaced.
    memory_budget : str or int
        Memory for patterns in flight.
    progress : bool
        Whether to log each finished tenth.

    Returns
    -------
    GroupStore
        The compacted store, opened; unchanged where nothing was appended.

    Raises
    ------
    StoreExistsError
        If another process is appending.
    StorageError
        If the store is at a URL or in a zip file, or can't be written to.
    """
    storage = open_location(path)
    if storage.folder is None:
        raise StorageError(
            f"'{storage}' can't be compacted: only folders are replaced; build a new store from it"
        )
    with storage_errors(storage, "compact again"), sole_appender(storage):
        store = open_group_store(path)
        if len(store.segments) == 1:
            # A compaction that was killed at its end may have left what it replaced.
            remove_replaced(storage.folder)
            return store
        scans, experiments = stored_runs(store, np.arange(store.num_patterns))
        plan = plan_build(tuple(scans), store.patterns_per_chunk, experiments=experiments)
        staged = StagedStore(storage)
        with staged.lock() as scratch:
            try:
                staged.start_or_resume("a compaction", resume=False, overwrite=True)
                job = ShardJob(staged, plan, readable_sources(plan, scratch, shared=False))
                records = write_shards(job, parse_bytes(memory_budget), progress=progress)
                numbers = range(store.num_experiments)
                whole = [store.scan(number) for number in numbers]
                tables = segment_tables(job) | experiment_tables(whole, numbers)
                base = store.segments[0]
                compacted = [*base.attributes.get("compacted", ()), manifest_digest(base.files)]
                attributes = store.attributes | {
                    "version": list(FORMAT_VERSION),
                    "compacted": compacted,
                }
                if store.is_finished:
                    staged.storage.write(FINISHED, storage.read(FINISHED))
                tables["experiment_id"] = store.experiment_id
                publish_segment(job, tables, attributes, records, keeps_readers=True)
            except BaseException:
                staged.abandon()
                raise
        store.release()
        remove_replaced(storage.folder)
    return open_group_store(path)
