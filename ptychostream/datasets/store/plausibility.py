"""What a scan's patterns look like, where that hints at a mistake; said, never refused."""

import logging
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from ptychostream.datasets.sources import centre
from ptychostream.datasets.sources.rows import as_ranges, with_numbers
from ptychostream.scan import Scan

logger = logging.getLogger(__name__)

#: Patterns with less than this part of the median of the sums of counts are called dark.
DARK = 1e-3

#: Patterns with more than this many times the median are called saturated.
BRIGHT = 20.0

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
        if not len(dark) and not len(bright):
            continue
        # One command mends both, in the file's own numbers, and keeps what was left out before.
        files = np.arange(len(own)) if scan.file_rows is None else scan.file_rows
        before = str(scan.provenance.get("options", {}).get("leave_out", ""))
        command = with_numbers(before, files[np.union1d(dark, bright)])
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
        warnings.append(
            _warn(
                f"{scan.name}: {'; '.join(what)}. Where a shutter was closed, a frame lost or the "
                f"detector saturated, this spoils the object; leave such patterns out: "
                f"build with {command}"
            )
        )
    return warnings


def _warn(sentence: str) -> str:
    logger.warning("%s", sentence)
    return sentence
