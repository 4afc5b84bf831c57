"""Let a store grow: patterns of a running scan become segments, complete ones or none."""

import json
from contextlib import AbstractContextManager, nullcontext
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ptychostream.datasets.store.build import (
    publish_segment,
    readable_sources,
    segment_tables,
    storage_errors,
    write_shards,
)
from ptychostream.datasets.store.format import (
    FINISHED,
    FORMAT_NAME,
    FORMAT_VERSION,
    segment_folder,
)
from ptychostream.datasets.store.group_store import GroupStore, open_group_store
from ptychostream.datasets.store.plan import plan_build
from ptychostream.datasets.store.scans import moved_to_origin
from ptychostream.datasets.store.shard_writer import ShardJob
from ptychostream.datasets.store.staging import StagedStore
from ptychostream.datasets.store.storage import StoreFiles, open_location
from ptychostream.errors import DataContractError
from ptychostream.files import locked
from ptychostream.geometry import check_extent
from ptychostream.memory import parse_bytes
from ptychostream.scan import PatternSource, Scan


def append_patterns(
    path: str | Path,
    scan: Scan,
    *,
    experiment: int = 0,
    memory_budget: str | int = "1 GiB",
) -> GroupStore:
    """Append patterns to an experiment of a store.

    They become a segment of their own, which appears at once when it is complete: who has the
    store open keeps seeing what was there, and who opens it later sees all. Each segment begins a
    new chunk, so append some hundred patterns at a time; build a new store from a finished one
    to have all patterns in one order.

    Parameters
    ----------
    path : str or Path
        The store, a folder or a URL. One process appends at a time.
    scan : Scan
        The new patterns with their positions, on the same object grid as the others.
    experiment : int
        The experiment they belong to.
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
    with storage_errors(storage, "append again"), _sole_appender(storage):
        store = open_group_store(path)
        scan = _continuing(store, scan, experiment)
        staged = StagedStore(storage.child(segment_folder(len(store.segments))))
        plan = plan_build((scan,), store.patterns_per_chunk)
        with staged.lock() as scratch:
            # What a killed appending left is not resumed: it is short.
            staged.start_or_resume(plan.fingerprint(), resume=False, overwrite=True)
            try:
                job = ShardJob(staged, plan, readable_sources(plan, scratch, shared=False))
                records = write_shards(job, parse_bytes(memory_budget))
                _refuse_again(store, scan, experiment, job.sources[0], job.energies())
                is_dosed = store.measurement_domain == "amplitude" and store.has_photon_counts
                if is_dosed and not all(record.whole for record in records):
                    raise DataContractError(
                        f"{scan.name} does not continue '{path}': its patterns are no photon "
                        "counts, as the store's are; scale them alike, or build another store"
                    )
                attributes = {
                    "format": FORMAT_NAME,
                    "version": list(FORMAT_VERSION),
                    "patterns_per_chunk": plan.patterns_per_chunk,
                    "experiment": experiment,
                    "provenance": scan.provenance,
                }
                publish_segment(job, segment_tables(job), attributes, records)
            except BaseException:
                staged.abandon()
                raise
    return open_group_store(path)


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
    with storage_errors(storage, "append again"), _sole_appender(storage):
        store = open_group_store(path)
        record = {"segments": len(store.segments), "num_patterns": store.num_patterns}
        storage.write(FINISHED, json.dumps(record).encode())
    return store


def _continuing(store: GroupStore, scan: Scan, experiment: int) -> Scan:
    """Check that a scan continues an experiment; returns it in the store's data type."""
    name = f"'{store.path}'"
    if store.is_finished:
        raise DataContractError(f"{name} is finished; build a new store from it to add patterns")
    rows = store.rows(experiment)
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
    stage = store.attributes["provenance"][experiment].get("stage")
    if stage is not None and "stage" in scan.provenance:
        # Metres of one stage: the new positions keep their place beside the old ones.
        scan = moved_to_origin(scan, stage["origin_m"])
    modes = store.attributes["probe_modes"][experiment]
    probe = store.probe[experiment, :modes]
    if scan.probe.shape != probe.shape or not np.allclose(scan.probe, probe, rtol=1e-4):
        raise DataContractError(
            f"{scan.name} does not continue {name}: it has another probe; give it the store's "
            "own, or build a second experiment"
        )
    bad = store.bad_pixels[experiment]
    if "flagged" in scan.provenance:
        # Found in the patterns, and not said by the file: another sample finds other pixels.
        scan = replace(scan, bad_pixels=None)
    if scan.bad_pixels is not None and (scan.bad_pixels != bad).any():
        raise DataContractError(
            f"{scan.name} does not continue {name}: it has other bad pixels; give it the store's"
        )
    check_extent(np.concatenate([store.positions[rows], scan.positions]), store.N, name=scan.name)
    index = store.scan_index[rows]
    numbers = scan.scan_index
    if numbers is None and index.any():
        # Where patterns are numbered, they go on to be.
        numbers = index.max() + 1 + np.arange(scan.num_patterns)
    return replace(scan, bad_pixels=bad, scan_index=numbers)


def _refuse_again(
    store: GroupStore,
    scan: Scan,
    experiment: int,
    patterns: PatternSource,
    energies: NDArray[np.float64],
) -> None:
    """Refuse patterns that were appended before: the same places and the same counts."""
    here = store.rows(experiment)
    known, new = (
        np.column_stack([positions, sums]).view("V24").ravel()
        for positions, sums in (
            (store.positions[here], store.total_counts[here]),
            (scan.positions, energies),
        )
    )
    good = np.ones((store.N, store.N), bool) if scan.bad_pixels is None else ~scan.bad_pixels
    # Two measurements at one place may have the same sum, and hardly the same pixels.
    for row in np.flatnonzero(np.isin(new, known) & (energies > 0)):
        pattern = patterns.read(np.array([row]))[0][good]
        held = store.diffraction(here[known == new[row]])[:, good]
        if (held == pattern).all(axis=1).any():
            raise DataContractError(
                f"pattern {row} of {scan.name} is in '{store.path}' already, at the same position "
                "with the same counts; append only what is new"
            )


def _sole_appender(storage: StoreFiles) -> AbstractContextManager[None]:
    folder = storage.folder
    if folder is None or not folder.is_dir():
        # A URL has no locks; a missing folder is named when it is opened.
        return nullcontext()
    return locked(folder, f"another process is appending to '{folder}'")
