"""Examine the values of a scan: counts or amplitudes, bad pixels, and what is doubtful."""

import logging
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ptychostream.datasets.sources.domain import Verdict, judge
from ptychostream.datasets.sources.joining import check_mask
from ptychostream.datasets.sources.options import InputOptions
from ptychostream.datasets.sources.parts import ScanParts
from ptychostream.datasets.sources.rows import as_ranges, with_numbers
from ptychostream.datasets.sources.survey import Survey, survey
from ptychostream.datasets.sources.window import CleanPatterns
from ptychostream.pattern_sources import PatternSource

logger = logging.getLogger(__name__)


@dataclass(frozen=True, eq=False)
class Examined:
    """Patterns whose values were examined.

    Attributes
    ----------
    patterns : PatternSource
        The patterns, whose other values are checked while they are read.
    mask : (H, W) bool, optional
        Bad pixels, with those that were found.
    survey : Survey, optional
        What was seen of the values; None where none were looked at.
    verdict : Verdict
        Counts or amplitudes, and on what evidence.
    """

    patterns: PatternSource
    mask: NDArray[np.bool_] | None
    survey: Survey | None
    verdict: Verdict
    warnings: tuple[str, ...] = ()


def examine(
    parts: ScanParts,
    options: InputOptions,
    patterns: PatternSource,
    mask: NDArray[np.bool_] | None,
    *,
    probe: NDArray[np.complex64] | None,
    numbers: NDArray[np.int64] | None,
) -> Examined:
    """Examine values.

    Parameters
    ----------
    mask : (H, W) bool, optional
        Pixels that are known to be bad.
    probe : (P, n, n) complex64, optional
        Illumination, if it is known already: its power helps to decide the domain.
    numbers : (M,) int64, optional
        The patterns' numbers in the file, where some are left out.
    """
    seen, verdict = _look(parts, options, patterns, mask, probe)
    if seen is None:
        return Examined(patterns, mask, None, verdict)
    warnings = _warnings_on_values(parts.name, seen, mask, numbers, patterns, options)
    warnings += check_mask(parts.name, mask, seen, options)
    if not verdict.is_certain:
        warnings.append(
            f"whether the patterns are counts or amplitude is doubtful: taken for "
            f"{verdict.domain}, since {verdict.evidence}; say it with --measurement_domain"
        )
    clean = CleanPatterns(
        patterns,
        seen.bad,
        ceiling=seen.ceiling,
        skip=frozenset(seen.lost.tolist()),
        zero_negative=options.negative == "zero",
        name=parts.name,
    )
    return Examined(clean, seen.bad if seen.bad.any() else mask, seen, verdict, tuple(warnings))


def _look(
    parts: ScanParts,
    options: InputOptions,
    patterns: PatternSource,
    mask: NDArray[np.bool_] | None,
    probe: NDArray[np.complex64] | None,
) -> tuple[Survey | None, Verdict]:
    """Look at the values as the options ask, and decide whether they are counts or amplitudes."""
    declared = options.measurement_domain or parts.measurement_domain
    seen = None
    if options.look != "none":
        seen = survey(
            patterns,
            bad=mask,
            saturation=parts.saturation if options.saturation is None else options.saturation,
            every=options.look == "all" or options.saturation is not None,
            name=parts.name,
            squares=declared == "amplitude",
        )
    if options.measurement_domain is not None:
        return seen, Verdict(options.measurement_domain, "as given", is_certain=True)
    if declared is not None:
        return seen, Verdict(declared, "as the file or its format says", is_certain=True)
    sample = next(iter(patterns.blocks(16))) if seen is None else seen.sample[:16]
    bad = np.zeros(patterns.shape[1:], bool) if seen is None else seen.bad
    verdict = judge(sample, bad, probe)
    logger.info(
        "%s does not declare its measurement_domain; its patterns look like %s: %s",
        parts.name,
        verdict.domain,
        verdict.evidence,
    )
    return seen, verdict


def _warnings_on_values(
    name: str,
    seen: Survey,
    mask: NDArray[np.bool_] | None,
    numbers: NDArray[np.int64] | None,
    patterns: PatternSource,
    options: InputOptions,
) -> list[str]:
    """Log which pixels were flagged, and return what is doubtful."""
    for why, number in seen.findings.items():
        if number:
            logger.info("%s: %d pixels are flagged as bad: %s", name, number, why)
    warnings = []
    total = seen.bad.size
    fresh = int(seen.bad.sum()) - (0 if mask is None else int(mask.sum()))
    if fresh > 0.25 * total:
        listed = ", ".join(f"{why} {number}" for why, number in seen.findings.items() if number)
        warnings.append(
            f"{fresh} of {total} pixels were flagged as bad ({listed}); look at the picture of "
            "ptychostream info --picture"
        )
    if len(seen.lost):
        lost = seen.lost if numbers is None else numbers[seen.lost]
        warnings.append(
            f"{len(lost)} of {patterns.shape[0]} patterns are saturated all over, numbers "
            f"{as_ranges(lost)}; leave them out: {with_numbers(options.leave_out, lost)}"
        )
    return warnings
