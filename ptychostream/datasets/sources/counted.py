"""Which patterns and positions there are: refuse what does not belong together by number."""

import numpy as np
from numpy.typing import NDArray

from ptychostream.datasets.sources.joining import Placed
from ptychostream.datasets.sources.options import InputOptions
from ptychostream.datasets.sources.parts import ScanParts
from ptychostream.datasets.sources.rows import rows_of, with_numbers
from ptychostream.errors import DataContractError
from ptychostream.scan import PatternSource

#: Edge below which nothing is a pattern.
_LEAST = 4


def patterns_of(parts: ScanParts) -> PatternSource:
    """Return the patterns, if they are a stack of images of numbers."""
    if parts.patterns is not None and min(parts.patterns.shape[1:]) < _LEAST:
        raise DataContractError(
            f"{parts.name}: the patterns are {tuple(parts.patterns.shape)}, expected (M, N, N) "
            f"with N of {_LEAST} or more; if the last axis has length one, drop it: diff3d[..., 0]"
        )
    if parts.patterns is None:
        raise DataContractError(
            f"{parts.name} {parts.looked_for.get('patterns', 'has no patterns')}; if they are "
            "there under another name, say it with --map diff3d=PATH"
        )
    shape = parts.patterns.shape
    if not shape[0]:
        raise DataContractError(f"{parts.name}: there are no patterns")
    if parts.patterns.dtype.kind not in "uif":
        raise DataContractError(
            f"{parts.name}: the patterns are {parts.patterns.dtype}, expected real numbers"
        )
    if (
        parts.positions is not None
        and shape[0] == shape[1]
        and shape[2] == len(parts.positions) != shape[0]
    ):
        key = str(parts.provenance.get("patterns"))
        key = key if key.isidentifier() and key != "None" else "diff3d"
        raise DataContractError(
            f"{parts.name}: the patterns are {tuple(shape)}, expected (M, N, N); move the last "
            f"axis of '{key}' to the front: np.moveaxis({key}, -1, 0)"
        )
    return parts.patterns


def kept_rows(
    parts: ScanParts, options: InputOptions, count: int, placed: Placed
) -> tuple[NDArray[np.int64] | None, NDArray[np.int64] | None]:
    """Return the numbers of positions and of patterns that are kept; None where all are."""
    kept = np.arange(count) if placed.rows is None else placed.rows
    if options.leave_out.strip("[]() "):
        # Positions without a pattern have numbers, too.
        highest = max(count, len(placed.values)) if placed.rows is None else count
        kept = np.arange(highest) if placed.rows is None else kept
        kept = np.setdiff1d(
            kept, rows_of(options.leave_out, highest, name=parts.name, option="leave_out")
        )
        if not (kept < count).any():
            raise DataContractError(
                f"{parts.name}: leave_out={options.leave_out} leaves no pattern"
            )
    elif placed.rows is None:
        return None, None
    return kept, kept[kept < count]


def check_counts(
    parts: ScanParts, options: InputOptions, patterns: PatternSource, placed: Placed
) -> None:
    """Refuse positions that are more or fewer than the patterns, or not finite."""
    count, positions = patterns.shape[0], placed.values
    if len(positions) != count:
        more = count - len(positions)
        numbers = np.arange(max(count, len(positions)))
        numbers = numbers if placed.numbers is None else placed.numbers
        advice = (
            f"If the last {more} were taken after the scan, leave them out: "
            f"{with_numbers(options.leave_out, numbers[len(positions) :])}; if the first "
            f"{more} were taken before it, with --trigger_shift -{more} besides (`ptychostream "
            "check` with these options tells which)"
            if more > 0
            else _without_positions(options, placed, -more)
        )
        raise DataContractError(
            f"{parts.name}: {count} diffraction patterns but {len(positions)} scan positions. "
            f"{advice}. If patterns were lost in between, give --positions FILE with a column "
            "'trigger': the number of the pattern to which each position belongs, counted from 0 "
            "or 1 (--first_trigger, where the numbers don't show it)"
        )
    wrong = np.flatnonzero(~np.isfinite(positions).all(axis=1))
    if len(wrong) == count:
        raise DataContractError(f"{parts.name}: the positions are not finite, none of them")
    if len(wrong):
        numbers = wrong if placed.numbers is None else placed.numbers[wrong]
        raise DataContractError(
            f"{parts.name}: {len(wrong)} of {count} positions are not finite, as where a scan was "
            "stopped; leave them out with their patterns: "
            f"{with_numbers(options.leave_out, numbers)}"
        )


def _without_positions(options: InputOptions, placed: Placed, more: int) -> str:
    """Say how the first or the last of some positions are left out."""
    before, option = options.leave_out_positions, "leave_out_positions"
    numbers = np.arange(len(placed.values)) if placed.listed is None else placed.listed
    return (
        f"If the last {more} of the positions have no pattern, leave them out: "
        f"{with_numbers(before, numbers[-more:], option)}; if it is the first {more}: "
        f"{with_numbers(before, numbers[:more], option)} (`ptychostream check` with one of them "
        "tells which)"
    )
