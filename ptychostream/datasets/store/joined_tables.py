"""The tables and the record of all segments of a store, as one."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ptychostream.datasets.large_tables import joined_rows
from ptychostream.datasets.store.segment import Segment
from ptychostream.errors import DataContractError


def joined_tables(path: Path | str, segments: Sequence[Segment]) -> dict[str, Any]:
    """Join what segments hold besides patterns, under the names of `GroupStore`'s attributes.

    Raises
    ------
    DataContractError
        If a table is missing, or segments do not fit each other.
    """
    base = segments[0]
    with_probe = [s.tables for s in segments if "probe" in s.tables]
    tables = {name: name for name in ("positions", "positions_start", "scan_index")}
    tables["total_counts"] = "energy"
    try:
        experiment_id = joined_rows(
            [base.tables["experiment_id"], *map(_experiments, segments[1:])]
        )
        _check_experiments(path, segments, experiment_id)
        joined = {
            name: joined_rows([s.tables[key] for s in segments]) for name, key in tables.items()
        }
        return joined | {
            "probe": _joined_probes([each["probe"] for each in with_probe]),
            "bad_pixels": joined_rows([each["bad_pixels"] for each in with_probe]),
            "experiment_id": experiment_id,
            "attributes": _joined_attributes(segments),
        }
    except KeyError as error:
        raise DataContractError(
            f"store '{path}' is damaged: it has no table {error}; copy or build the store again"
        ) from error


def _check_experiments(
    path: Path | str, segments: Sequence[Segment], experiment_id: NDArray[np.integer]
) -> None:
    """Check that segments fit each other, and that every pattern is of an experiment there is."""
    number = sum(len(s.tables["probe"]) for s in segments if "probe" in s.tables)
    first = segments[0]
    wrong = [
        f"a pattern of experiment {each}, but {number} experiments"
        for each in (int(experiment_id.min()), int(experiment_id.max()))
        if not 0 <= each < number
    ]
    wrong += [
        f"patterns of {segment.array.dtype} {segment.array.shape[1:]} in chunks of "
        f"{segment.array.chunks[0]} after {first.array.dtype} {first.array.shape[1:]} in chunks "
        f"of {first.patterns_per_chunk}"
        for segment in segments
        if (segment.array.dtype, segment.array.shape[1:], segment.array.chunks[0])
        != (first.array.dtype, first.array.shape[1:], first.patterns_per_chunk)
        or segment.patterns_per_chunk != first.patterns_per_chunk
    ]
    if wrong:
        raise DataContractError(
            f"store '{path}' is damaged: it holds {wrong[0]}; copy or build the store again"
        )


def _experiments(segment: Segment) -> NDArray[np.int64]:
    table = segment.tables.get("experiment_id")
    if table is None:  # a segment of 0.1, all of one experiment
        return np.full(segment.num_patterns, segment.attributes["experiment"])
    return table


def _joined_experiments(parts: list[NDArray[np.int64]]) -> NDArray[np.int64]:
    """Join the experiments of all patterns; where they are one, it is in memory once."""
    first = parts[0][0]
    if all(part.min() == part.max() == first for part in parts):
        return np.broadcast_to(first, (sum(map(len, parts)),))
    return joined_rows(parts)


def _joined_probes(probes: list[NDArray[np.complex64]]) -> NDArray[np.complex64]:
    """Join probes (E, P, N, N); modes that an experiment does not have are zero."""
    modes = max(each.shape[1] for each in probes)
    widths = [((0, 0), (0, modes - each.shape[1]), (0, 0), (0, 0)) for each in probes]
    return joined_rows(
        [
            np.pad(each, width) if width[1][1] else each
            for each, width in zip(probes, widths, strict=True)
        ]
    )


def _joined_attributes(segments: Sequence[Segment]) -> dict[str, Any]:
    """Add the record of experiments that were appended to that of those that were built."""
    attributes = segments[0].attributes
    added = [s.attributes for s in segments[1:] if "probe_modes" in s.attributes]
    if not added:
        return attributes
    lists = ("probe_modes", "metadata", "provenance")
    return attributes | {
        name: [item for each in (attributes, *added) for item in each[name]] for name in lists
    }
