"""Examine the values of a scan: counts or amplitudes, bad pixels, and what is doubtful."""

import logging
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from ptychostream.datasets.sources.domain import Verdict, judge
from ptychostream.datasets.sources.joining import check_mask
from ptychostream.datasets.sources.options import InputOptions
from ptychostream.datasets.sources.parts import ScanParts
from ptychostream.datasets.sources.rows import as_ranges, with_numbers
from ptychostream.datasets.sources.survey import Survey, survey
from ptychostream.datasets.sources.window import CleanPatterns
from ptychostream.errors import DataContractError
from ptychostream.pattern_sources import PatternSource
from ptychostream.scan import Scan

logger = logging.getLogger(__name__)

#: What is said of patterns that hold no measurement at all.
LOST = "patterns are saturated, or hold one value all over, numbers"

#: Part of the light in saturated pixels that is worth a warning.
_MUCH = 0.05


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
    _refuse_unusable(parts.name, seen, numbers, patterns, options)
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


def examined_scan(scan: Scan) -> Scan:
    """Look at the values of a scan that another program has read, as at those of a file."""
    parts = ScanParts.of(scan)
    found = examine(
        parts,
        InputOptions(look="all"),
        scan.patterns,
        scan.bad_pixels,
        probe=scan.probe,
        numbers=None,
    )
    for text in found.warnings:
        logger.warning("%s: %s", scan.name, text)
    warnings = (*scan.warnings, *found.warnings)
    return replace(scan, patterns=found.patterns, bad_pixels=found.mask, warnings=warnings)


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
            probe=probe,
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


def _refuse_unusable(
    name: str,
    seen: Survey,
    numbers: NDArray[np.int64] | None,
    patterns: PatternSource,
    options: InputOptions,
) -> None:
    """Refuse patterns that can't be kept, and integers whose counts ran over their type."""
    sampled = np.isin(seen.rows, seen.lost)
    if sampled.any() and not np.isfinite(seen.sample[sampled][:, ~seen.bad]).all():
        lost = seen.lost if numbers is None else numbers[seen.lost]
        raise DataContractError(
            f"{name}: {len(lost)} of {patterns.shape[0]} patterns hold NaN, infinite or saturated "
            f"values all over, numbers {as_ranges(lost)}; leave them out: "
            f"{with_numbers(options.leave_out, lost)}"
        )
    kind = seen.sample.dtype
    if kind.kind != "i" or not seen.sample.size:
        return
    # Unsigned counts in a signed type go on below zero from its largest value.
    limit = 2.0 ** (8 * kind.itemsize - 1)
    good = seen.sample[:, ~seen.bad]
    over = good < -limit / 4
    if over.any() and good.max() > limit / 2:
        raise DataContractError(
            f"{name}: {int(over.sum())} values of {len(good)} patterns are negative, down to "
            f"{good.min()}, where counts ran over {kind}: they are unsigned numbers. Write them "
            f"as such, diff3d.view('{kind.byteorder.replace('=', '<')}u{kind.itemsize}'), or read "
            "the file again from the detector"
        )


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
    if seen.saturated_light > _MUCH:
        warnings.append(
            f"the detector saturates at {seen.ceiling:.15g}: pixels that reach it hold "
            f"{seen.saturated_light:.0%} of the light and are flagged; measure with less light, or "
            f"say --saturation {seen.ceiling:.15g} if it can't be helped"
        )
    if len(seen.lost):
        lost = seen.lost if numbers is None else numbers[seen.lost]
        warnings.append(
            f"{len(lost)} of {patterns.shape[0]} {LOST} {as_ranges(lost)}; leave them out: "
            f"{with_numbers(options.leave_out, lost)}"
        )
    return warnings
