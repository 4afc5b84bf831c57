"""What a scan's patterns look like, where that hints at a mistake."""

import logging
from collections.abc import Sequence
from functools import reduce
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ptychostream.datasets.sources import centre
from ptychostream.datasets.sources.examine import LOST
from ptychostream.datasets.sources.rows import as_ranges, with_numbers
from ptychostream.scan import Scan

logger = logging.getLogger(__name__)

#: Patterns with less than this part of the median of the sums of counts are called dark.
DARK = 1e-3

#: Patterns with more than this many times the median are called saturated.
BRIGHT = 20.0

#: Part of the pixels that a pattern has if only some of them are bad.
_MOST = 0.8

#: Patterns that are looked at to find where their centre lies.
_LOOKED_AT = 16


def is_corner_centred(scan: Scan) -> bool:
    """Return whether patterns look as if their zero frequency lay in the corner."""
    block = next(scan.patterns.blocks(_LOOKED_AT)).astype(np.float64)
    # What is not finite is for the build to refuse.
    block[~np.isfinite(block)] = 0
    mean = (block if scan.measurement_domain == "counts" else block**2).mean(axis=0)
    if scan.bad_pixels is not None:
        mean[scan.bad_pixels] = 0
    return centre.is_corner_centred(mean)


def warn_if_corner_centred(scan: Scan) -> list[str]:
    """Log and return a warning about patterns whose zero frequency seems to lie in the corner."""
    if any("swap_quadrants" in sentence for sentence in scan.warnings):
        # Said when the file was read.
        return []
    if "options" in scan.provenance and "swap_quadrants" in scan.provenance["options"]:
        return []
    if not is_corner_centred(scan):
        return []
    return [
        _warn(
            f"{scan.name}: the patterns are brightest in their corners; the zero frequency belongs "
            "at pixel (N/2, N/2). If it lies in the corner, build with --swap_quadrants true"
        )
    ]


def doubtful_patterns(scans: Sequence[Scan], totals: NDArray[np.float64]) -> list[str]:
    """Log and return warnings about patterns that hold hardly any light, or far too much.

    Parameters
    ----------
    totals : (M,) float64
        Sum of counts of each pattern, experiment after experiment.
    """
    warnings = []
    ends = np.cumsum([scan.num_patterns for scan in scans])[:-1]
    for scan, own in zip(scans, np.split(totals, ends), strict=True):
        middle = np.median(own)
        dark = np.flatnonzero(own <= DARK * middle)
        bright = np.flatnonzero(own > BRIGHT * middle) if middle > 0 else dark[:0]
        # One command mends all, in the file's own numbers, and keeps what was left out before.
        files = np.arange(len(own)) if scan.file_rows is None else scan.file_rows
        lost = np.flatnonzero(np.isin(files, scan.provenance.get("lost", [])))
        bright = np.setdiff1d(bright, lost)
        if not len(dark) and not len(bright) and not len(lost):
            continue
        before = str(scan.provenance.get("options", {}).get("leave_out", ""))
        command = with_numbers(before, files[reduce(np.union1d, (dark, bright, lost))])
        what = []
        if len(dark):
            what.append(
                f"{len(dark)} of {len(own)} patterns hold hardly any light, numbers "
                f"{as_ranges(files[dark])}"
            )
        if len(bright):
            what.append(
                f"{len(bright)} of {len(own)} patterns hold more than {BRIGHT:g} times the "
                f"usual light, numbers {as_ranges(files[bright])}"
            )
        if len(lost):
            what.append(f"{len(lost)} of {len(own)} {LOST} {as_ranges(files[lost])}")
        warnings.append(
            _warn(
                f"{scan.name}: {'; '.join(what)}. Where a shutter was closed, a frame lost or the "
                f"detector saturated, this spoils the object; leave such patterns out: "
                f"build with {command}"
            )
        )
    return warnings


def refusal_of_values(scan: Scan, good: NDArray[np.bool_]) -> str:
    """Return which patterns hold values that no store takes, and what to do: all of them."""
    broken: list[int] = []
    below: list[int] = []
    spots: set[int] = set()
    lowest, share = 0.0, 0.0
    first: tuple[int, Any] | None = None
    at = 0
    for block in scan.patterns.blocks(64):
        values = block[:, good]
        finite = np.isfinite(values)
        negative = finite & (values < 0)
        wrong = ~finite | negative
        if first is None and wrong.any():
            row = int(np.argwhere(wrong)[0][0])
            first = at + row, values[row][wrong[row]][0]
        broken += (at + np.flatnonzero(~finite.all(axis=1))).tolist()
        few = ~finite[finite.mean(axis=1) > _MOST]
        spots |= set(np.flatnonzero(few.any(axis=0)).tolist())
        below += (at + np.flatnonzero(negative.any(axis=1))).tolist()
        lowest = min(lowest, float(np.min(values, initial=0, where=finite)))
        share += float(negative.mean()) * len(block) / scan.num_patterns
        at += len(block)
    files = np.arange(scan.num_patterns) if scan.file_rows is None else scan.file_rows
    before = str(scan.provenance.get("options", {}).get("leave_out", ""))
    parts = []
    if broken:
        numbers = files[np.array(broken)]
        flags = f"; or flag the {len(spots)} pixels that hold them here and there: --look all"
        parts.append(
            f"{len(broken)} of {scan.num_patterns} patterns hold NaN or infinite values, numbers "
            f"{as_ranges(numbers)}: leave them out: {with_numbers(before, numbers)}"
            f"{flags * bool(spots)}"
        )
    if below:
        numbers = files[np.array(below)]
        lost = (
            f"; or, if these patterns were lost, leave them out: {with_numbers(before, numbers)}"
            if len(below) <= 0.3 * scan.num_patterns
            else ""
        )
        parts.append(
            f"{len(below)} of {scan.num_patterns} patterns hold negative values, {share:.2%} of "
            f"all, down to {lowest:g}: after a dark subtraction, let them be zero: --negative zero"
            f"{lost}"
        )
    holds = "" if first is None else f"pattern {files[first[0]]} holds {first[1]}; "
    return f"{scan.name}: {holds}patterns must be finite and not negative. {'; '.join(parts)}"


def _warn(sentence: str) -> str:
    logger.warning("%s", sentence)
    return sentence
