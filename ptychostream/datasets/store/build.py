"""Build a store from scans: shard by shard in a hidden folder, renamed when complete."""

import logging
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from ptychostream.cluster import connected
from ptychostream.datasets.sources.chosen_probe import ProbeFinder
from ptychostream.datasets.sources.examine import LOST
from ptychostream.datasets.sources.options import InputOptions
from ptychostream.datasets.sources.survey import UnflaggedValuesError
from ptychostream.datasets.store.format import FORMAT_NAME, FORMAT_VERSION, MANIFEST
from ptychostream.datasets.store.group_store import GroupStore, open_group_store
from ptychostream.datasets.store.plan import StoreLayout, plan_build
from ptychostream.datasets.store.plausibility import doubtful_patterns, warn_if_corner_centred
from ptychostream.datasets.store.scans import scans_from
from ptychostream.datasets.store.shard_writer import ShardJob, ShardRecord
from ptychostream.datasets.store.staging import StagedStore
from ptychostream.datasets.store.storage import StoreFiles, open_location
from ptychostream.datasets.store.written_segment import (
    experiment_attributes,
    experiment_tables,
    publish_segment,
    readable_sources,
    segment_tables,
    storage_errors,
    write_shards,
)
from ptychostream.errors import (
    DataContractError,
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
        staged.remove_left()
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


def _head(plan: StoreLayout) -> dict[str, Any]:
    return {
        "format": FORMAT_NAME,
        "version": list(FORMAT_VERSION),
        "measurement_domain": plan.scans[0].measurement_domain,
        "patterns_per_chunk": plan.patterns_per_chunk,
        **experiment_attributes(plan.scans),
    }


def _named(scan: Scan) -> list[str]:
    # Patterns that are lost are named with the dark ones, in one command.
    return [f"{scan.name}: {said}" for said in scan.warnings if LOST not in said]


def _are_whole(records: list[ShardRecord]) -> bool:
    return all(r.whole for r in records) and any(r.above_one for r in records)
