"""Append patterns of a running scan to a store, as segments that are complete or not there."""

import json
from contextlib import AbstractContextManager, nullcontext
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from ptychostream.datasets.sources.rows import with_numbers
from ptychostream.datasets.store.chain import segment_name, write_chain
from ptychostream.datasets.store.format import (
    CHUNKS_PER_SHARD,
    FINISHED,
    FORMAT_NAME,
    FORMAT_VERSION,
    MANIFEST,
    SEGMENTS,
)
from ptychostream.datasets.store.group_store import GroupStore, open_group_store
from ptychostream.datasets.store.plan import StoreLayout, plan_build
from ptychostream.datasets.store.scans import moved_to_origin
from ptychostream.datasets.store.segment import Segment
from ptychostream.datasets.store.shard_writer import ShardJob
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
from ptychostream.errors import DataContractError
from ptychostream.geometry import check_extent
from ptychostream.locks import locked
from ptychostream.memory import parse_bytes
from ptychostream.scan import PatternSource, Scan


def append_patterns(
    path: str | Path,
    scan: Scan,
    *,
    experiment: int | Literal["new"] = 0,
    memory_budget: str | int = "1 GiB",
) -> GroupStore:
    """Append patterns to an experiment of a store, or append a new experiment.

    They become a segment, which appears at once when it is complete: who has the store open keeps
    seeing what was there, and who opens it later sees all. A small segment is packed: the
    segments before it that are no larger are written together with it, so that few segments hold
    many blocks, and a pattern is written again some ten times at most. `compact_group_store`
    makes one order of all.

    Parameters
    ----------
    path : str or Path
        The store, a folder or a URL. One process appends at a time.
    scan : Scan
        The new patterns with their positions, on the same object grid as the others of their
        experiment.
    experiment : int or 'new'
        The experiment they belong to; `new` begins one, with the scan's own probe, bad pixels,
        object and metadata.
    memory_budget : str or int
        Memory for patterns in flight.

    Returns
    -------
    GroupStore
        The grown store, opened.

    Raises
    ------
    DataContractError
        If the scan does not continue the experiment: another size, domain, type, probe or bad
        pixels; or if the store is finished.
    StoreExistsError
        If another process is appending.
    """
    storage = open_location(path)
    with storage_errors(storage, "append again"), sole_appender(storage):
        store = open_group_store(path)
        scan = _continuing(store, scan, experiment)
        number = store.num_experiments if experiment == "new" else experiment
        packed = _to_pack(store, scan.num_patterns)
        first = packed[0].blocks[0] if packed else _next_block(store)
        blocks = (first, _next_block(store))
        staged = StagedStore(storage.child(f"{SEGMENTS}/{segment_name(*blocks)}"))
        rows = np.arange(
            store.num_patterns - sum(each.num_patterns for each in packed), store.num_patterns
        )
        before, numbers = stored_runs(store, rows)
        plan = plan_build((*before, scan), store.patterns_per_chunk, experiments=[*numbers, number])
        with staged.lock() as scratch:
            # What a killed append left is deleted, not resumed: appending is quick.
            try:
                staged.start_or_resume("an appending", resume=False, overwrite=True)
                job = ShardJob(staged, plan, readable_sources(plan, scratch, shared=False))
                records = write_shards(job, parse_bytes(memory_budget))
                if experiment != "new":
                    own = job.energies()[len(rows) :]
                    _refuse_again(store, scan, number, job.sources[-1], own)
                is_dosed = store.measurement_domain == "amplitude" and store.has_photon_counts
                if is_dosed and not all(record.whole for record in records):
                    raise DataContractError(
                        f"{scan.name} does not continue '{path}': its patterns are no photon "
                        "counts, as the store's are; scale them alike, or build another store"
                    )
                tables, attributes = _content(
                    store, plan, [*numbers, number], packed, is_new=experiment == "new"
                )
                publish_segment(job, segment_tables(job) | tables, attributes, records)
            except BaseException:
                staged.abandon()
                raise
        kept = [s.blocks for s in store.segments[1 : len(store.segments) - len(packed)]]
        write_chain(storage, [*kept, blocks])
        return store.refreshed()


def finish_group_store(path: str | Path) -> GroupStore:
    """Declare that nothing more will be appended to a store.

    Parameters
    ----------
    path : str or Path
        The store.

    Returns
    -------
    GroupStore
        The store, opened; those who follow it come to its end.
    """
    storage = open_location(path)
    with storage_errors(storage, "append again"), sole_appender(storage):
        store = open_group_store(path)
        record = {"segments": len(store.segments), "num_patterns": store.num_patterns}
        storage.clear_left(FINISHED)
        storage.write(FINISHED, json.dumps(record).encode())
    return store


def _next_block(store: GroupStore) -> int:
    return store.segments[-1].blocks[1] + 1


def _to_pack(store: GroupStore, number: int) -> list[Segment]:
    """Choose the last segments to be written together with new patterns.

    Sizes then fall from each segment to the next by a factor of two, as in a binary counter: few
    segments, and each pattern is written again once each time that its segment doubles. What
    fills a shard is large enough to be read well, and stays.
    """
    limit = store.patterns_per_chunk * CHUNKS_PER_SHARD
    packed: list[Segment] = []
    for segment in reversed(store.segments[1:]):
        if segment.num_patterns > number or number + segment.num_patterns > limit:
            break
        packed.insert(0, segment)
        number += segment.num_patterns
    return packed


def stored_runs(store: GroupStore, rows: NDArray[np.int64]) -> tuple[list[Scan], list[int]]:
    """Cut consecutive rows of a store into scans of one experiment each.

    Returns
    -------
    scans, experiments
        In the order of the rows.
    """
    if not len(rows):
        return [], []
    own = store.experiment_id[rows]
    parts = np.split(rows, np.flatnonzero(np.diff(own)) + 1)
    numbers = [int(store.experiment_id[part[0]]) for part in parts]
    return [store.part(number, part) for number, part in zip(numbers, parts, strict=True)], numbers


def _content(
    store: GroupStore, plan: StoreLayout, numbers: list[int], packed: list[Segment], *, is_new: bool
) -> tuple[dict[str, NDArray[Any]], dict[str, Any]]:
    """Make the tables and attributes that a segment has beside those of its patterns."""
    scan = plan.scans[-1]
    sizes = [each.num_patterns for each in plan.scans]
    tables: dict[str, NDArray[Any]] = {"experiment_id": np.repeat(numbers, sizes)}
    begun = [number for each in packed for number in each.begun]
    scans = [store.scan(number) for number in begun]
    if is_new:
        begun, scans = [*begun, numbers[-1]], [*scans, scan]
    sources = [source for each in packed for source in each.sources]
    if scan.provenance not in sources:
        sources.append(scan.provenance)
    attributes: dict[str, Any] = {
        "format": FORMAT_NAME,
        "version": list(FORMAT_VERSION),
        "patterns_per_chunk": plan.patterns_per_chunk,
        "sources": sources,
        "begun": begun,
    }
    if begun:
        tables |= experiment_tables(scans, begun)
        attributes |= experiment_attributes(scans)
    return tables, attributes


def _continuing(store: GroupStore, scan: Scan, experiment: int | Literal["new"]) -> Scan:
    """Check that a scan fits a store, and an experiment that it continues.

    Returns
    -------
    Scan
        With the bad pixels and the numbering of its experiment.
    """
    name = f"'{store.path}'"
    if store.is_finished:
        raise DataContractError(f"{name} is finished; build a new store from it to add patterns")
    rows = None if experiment == "new" else store.rows(experiment)
    theirs: list[tuple[str, Any, Any]] = [
        ("patterns of", f"{scan.N} px", f"{store.N} px"),
        ("measurement domain", scan.measurement_domain, store.measurement_domain),
        ("data type", str(scan.patterns.dtype.newbyteorder("=")), str(store.dtype)),
    ]
    for what, new, old in theirs:
        if new != old:
            raise DataContractError(
                f"{scan.name} does not continue {name}: {what} {new} instead of {old}"
            )
    if experiment == "new" or rows is None:
        return _on_stage_of(store, scan)
    stage = store.attributes["provenance"][experiment].get("stage")
    if stage is not None and "stage" in scan.provenance:
        # Metres of one stage: the new positions keep their place beside the old ones.
        pixels = stage["pixel_m"], scan.provenance["stage"]["pixel_m"]
        if not np.allclose(*pixels, rtol=1e-3):
            raise DataContractError(
                f"{scan.name} does not continue {name}: its object pixel is {pixels[1][0]:.4g} m "
                f"instead of {pixels[0][0]:.4g} m, by another photon energy, distance or detector "
                "pixel; append it with --experiment new"
            )
        scan = moved_to_origin(scan, stage["origin_m"])
    modes = store.attributes["probe_modes"][experiment]
    probe = store.probe[experiment, :modes]
    if scan.probe.shape != probe.shape or not np.allclose(scan.probe, probe, rtol=1e-4):
        raise DataContractError(
            f"{scan.name} does not continue {name}: it has another probe; give it the store's "
            "own, or append it with experiment='new' (--experiment new)"
        )
    bad = store.bad_pixels[experiment]
    if "flagged" in scan.provenance:
        # The mask was found from the values of patterns: other patterns may flag other pixels.
        scan = replace(scan, bad_pixels=None)
    if scan.bad_pixels is not None and (scan.bad_pixels != bad).any():
        raise DataContractError(
            f"{scan.name} does not continue {name}: it has other bad pixels; give it the store's"
        )
    check_extent(np.concatenate([store.positions[rows], scan.positions]), store.N, name=scan.name)
    index = store.scan_index[rows]
    numbers = scan.scan_index
    if numbers is None and index.any():
        # Numbered patterns are continued with the next numbers.
        numbers = index.max() + 1 + np.arange(scan.num_patterns)
    return replace(scan, bad_pixels=bad, scan_index=numbers)


def _on_stage_of(store: GroupStore, scan: Scan) -> Scan:
    """Shift a new experiment to the origin of those before, where all are metres of one stage."""
    stages = [found for record in store.attributes["provenance"] if (found := record.get("stage"))]
    own = scan.provenance.get("stage")
    if own is None or not stages or not np.allclose(own["pixel_m"], stages[0]["pixel_m"]):
        return scan
    return moved_to_origin(scan, stages[0]["origin_m"])


def _refuse_again(
    store: GroupStore,
    scan: Scan,
    experiment: int,
    patterns: PatternSource,
    energies: NDArray[np.float64],
) -> None:
    """Refuse patterns that were appended before: the same positions and the same counts."""
    here = store.rows(experiment)
    known, new = (
        # Metres that became pixels by another origin differ in the last digits.
        np.column_stack([np.rint(positions * 1000) + 0.0, sums]).view("V24").ravel()
        for positions, sums in (
            (store.positions[here], store.total_counts[here]),
            (scan.positions, energies),
        )
    )
    good = np.ones((store.N, store.N), bool) if scan.bad_pixels is None else ~scan.bad_pixels
    again = []
    # Two measurements at one position may have the same sum, but not the same pixels.
    for row in np.flatnonzero(np.isin(new, known) & (energies > 0)):
        pattern = patterns.read(np.array([row]))[0][good]
        held = store.diffraction(here[known == new[row]])[:, good]
        if (held == pattern).all(axis=1).any():
            again.append(row)
    if not again:
        return
    numbers = np.array(again)
    numbers = numbers if scan.file_rows is None else scan.file_rows[numbers]
    before = str(scan.provenance.get("options", {}).get("leave_out", ""))
    is_all = len(again) == scan.num_patterns
    raise DataContractError(
        f"{len(again)} of {scan.num_patterns} patterns of {scan.name} are in '{store.path}' "
        "already, at the same positions with the same counts; "
        + (
            "there is nothing to append"
            if is_all
            else f"append only what is new: {with_numbers(before, numbers)}"
        )
    )


def sole_appender(storage: StoreFiles) -> AbstractContextManager[None]:
    """Lock a store against others that append to it or compact it."""
    folder = storage.folder
    if folder is None or not (folder / MANIFEST).is_file():
        # A URL has no locks; a missing store is an error when it is opened.
        return nullcontext()
    # Not the store's own folder, which its readers lock.
    (folder / SEGMENTS).mkdir(exist_ok=True)
    return locked(folder / SEGMENTS, f"another process is appending to '{folder}'")
