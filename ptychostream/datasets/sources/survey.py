"""Find the pixels of a scan that hold no measurement, before its values are used.

A pixel is judged over the scan, so that rare events do not count: gaps that hold the largest value
of their type or NaN, stuck, hot and dead pixels. Nothing here changes a value.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ptychostream.datasets.sources.odd_pixels import (
    dead_pixels,
    hot_pixels,
    is_peaked,
    quantum,
    shadowed_pixels,
)
from ptychostream.datasets.sources.saturation import (
    ceiling_of,
    clipped_at,
    lowest_mark,
    numbered,
    tally,
    wrong_values,
)
from ptychostream.errors import DataContractError
from ptychostream.scan import PatternSource

#: Patterns of a sample, and bytes that it may take.
_SAMPLE, _SAMPLE_BYTES = 64, 2**24

#: Patterns that saturate as no more than this part of them do, in pixels that hold this part of
#: the light, are lost, and not their pixels.
_RARELY, _BRIGHT = 0.1, 0.2

#: Scans of up to this many patterns are read whole to name all that are lost.
_FEW_ENOUGH = 20_000

#: Value of a mark that no detector counts to.
_UNREACHED = 2.0**31 - 2

#: Part of the patterns in which a pixel is negative if it is no noise after a dark subtraction.
_THROUGHOUT = 0.9


class UnflaggedValuesError(DataContractError):
    """A pattern outside the examined sample holds values that are no measurement."""


@dataclass(frozen=True, eq=False, kw_only=True)
class Survey:
    """What was seen of a scan's patterns, as the file holds them.

    `rows` (K,): patterns that were looked at.
    `sample` (K, H, W): their values, of at most some megabytes.
    `mean` (H, W): mean of the good values of each pixel; zero where there is none.
    `light` (H, W): mean counts of each pixel, whether it is flagged or not; zero where it is no
        number.
    `bad` (H, W): pixels that are no measurement.
    `lost` (L,): patterns that are saturated all over.
    `ceiling`: value from which on a pixel is no measurement.
    `saturated_light`: part of the light in pixels that reach a ceiling which was found and not
        given.
    `findings`: how many pixels are bad for which reason.
    """

    rows: NDArray[np.int64]
    sample: NDArray[Any]
    mean: NDArray[np.float64]
    light: NDArray[np.float64]
    bad: NDArray[np.bool_]
    lost: NDArray[np.int64]
    ceiling: float | None
    saturated_light: float
    findings: dict[str, int]


def survey(
    source: PatternSource,
    *,
    bad: NDArray[np.bool_] | None,
    saturation: float | None,
    every: bool,
    name: str,
    squares: bool,
    probe: NDArray[np.complex64] | None = None,
) -> Survey:
    """Look at a sample of the patterns, or at all of them.

    `bad` (H, W): pixels that are known to be bad.
    `saturation`: value from which on a pixel is no measurement.
    `every`: whether all patterns are looked at for saturated pixels.
    `squares`: whether the values are amplitudes: their squares are counts.
    `probe` (P, n, n): illumination, which says how narrow a peak may be.
    """
    rows, sample = _sample(source)
    shape = sample.shape[1:]
    known = np.zeros(shape, bool) if bad is None else bad
    ceiling, is_mark = ceiling_of(sample.dtype, saturation), True
    finite = np.isfinite(sample)
    if saturation is None:
        mark = lowest_mark(sample, finite)
        ceiling = mark if mark is not None else ceiling
        if mark is None:
            clipped = clipped_at(sample, known | _stuck(sample))
            ceiling, is_mark = (ceiling, True) if clipped is None else (clipped, False)
    wrong = wrong_values(sample, ceiling)
    usual = np.asarray(wrong.mean(axis=0) > 0.5)
    found_lost, partly, times = tally([(rows, sample)], ceiling, usual, known, with_nan=every)
    looked_at = len(sample)
    if len(sample) < source.shape[0] and (
        (every and ceiling is not None)
        or (every and sample.dtype.kind == "f")
        or (found_lost and source.shape[0] <= _FEW_ENOUGH)
    ):
        blocks = numbered(source.blocks(64))
        found_lost, partly, times = tally(blocks, ceiling, usual, known, with_nan=every)
        looked_at = source.shape[0]
    keep = ~np.isin(rows, found_lost)
    keep = keep if keep.any() else np.ones_like(keep)
    light = _light(sample[keep], finite[keep], ceiling, squares=squares)
    rare = (times > 0) & ~usual
    if 0 < len(partly) <= _RARELY * looked_at and light[rare].sum() > _BRIGHT * light.sum():
        # The patterns are lost, and not the pixels, which hold most of what the others have.
        found_lost, times = found_lost + partly, np.where(usual, times, 0)
        keep &= ~np.isin(rows, partly)
    lost = np.array(sorted(set(found_lost)), np.int64)
    usable, ok = sample[keep], finite[keep]
    lit = usable if sample.dtype.kind != "f" else np.where(ok, usable, 0)
    flagged: dict[str, NDArray[np.bool_]] = {}
    never = np.asarray((~ok).any(axis=0))
    flagged["saturated, or the largest value of their type"] = (times > 0) & ~known & ~never
    flagged["NaN or infinite"] = (times > 0) & ~known & never
    flagged["negative throughout"] = (
        _throughout(lit < 0) if sample.dtype.kind in "if" else np.zeros(shape, bool)
    )
    spoiled = (times > 0) | flagged["negative throughout"]
    found = known | spoiled
    counts = np.maximum(lit, 0).astype(np.float64)
    if squares:
        counts = counts**2
    totals = counts.sum(axis=0)
    stuck = _stuck(lit)
    # A gap holds the largest value of its type throughout, and no detector counts to 2^31.
    is_light = ~usual if is_mark and (ceiling or 0) < _UNREACHED else np.full(shape, not is_mark)
    saturated = light[flagged["saturated, or the largest value of their type"] & is_light].sum()
    share = float(saturated / max(light[is_light].sum(), 1e-30))
    light = np.where(spoiled | stuck, 0, totals / max(1, len(usable)))
    totals[found] = 0
    flagged["stuck at one value"] = stuck & ~found
    found = found | flagged["stuck at one value"]
    totals[found] = 0
    unit = quantum(counts, found, lit)
    spare = probe is None or is_peaked(probe)
    # Beside a dead gap any pixel looks hot, and a hot one in a gap hides it.
    dead = dead_pixels(totals / unit, counts, found)
    flagged["hot"] = hot_pixels(totals / unit, found | dead, spare_centre=spare)
    flagged["dead"] = dead | dead_pixels(totals / unit, counts, found | flagged["hot"])
    found = found | flagged["hot"] | flagged["dead"]
    flagged["in the shadow of a beam stop"] = shadowed_pixels(totals / unit, found)
    found = found | flagged["in the shadow of a beam stop"]
    mean = np.where(found, 0, totals / max(1, len(usable)))
    return Survey(
        rows=rows,
        sample=sample,
        mean=mean,
        light=light,
        bad=found,
        lost=lost,
        ceiling=ceiling,
        saturated_light=share if saturation is None else 0.0,
        findings={why: int((where & ~known).sum()) for why, where in flagged.items()},
    )


def _sample(source: PatternSource) -> tuple[NDArray[np.int64], NDArray[Any]]:
    """Read patterns spread over the scan, or the first ones of a stream."""
    number, height, width = source.shape
    most = max(8, min(_SAMPLE, _SAMPLE_BYTES // max(1, height * width * source.dtype.itemsize)))
    if number <= most:
        return np.arange(number), np.concatenate([*source.blocks(most)])
    if not source.random_access and not getattr(source, "seekable", False):
        block = next(iter(source.blocks(most)))
        return np.arange(len(block)), block
    rows = np.unique(np.linspace(0, number - 1, most).round().astype(np.int64))
    return rows, source.read(rows)


def _throughout(where: NDArray[np.bool_]) -> NDArray[np.bool_]:
    usual = where.mean(axis=0) > _THROUGHOUT
    # If most pixels are affected, the pixels are not bad, but the file: it is refused.
    return np.asarray(usual) if usual.mean() < 0.5 else np.zeros_like(usual)


def _light(
    values: NDArray[Any], finite: NDArray[np.bool_], ceiling: float | None, *, squares: bool
) -> NDArray[np.float64]:
    """Return the mean counts of each pixel, of those above the ceiling at least that."""
    shown = np.where(finite, values, 0).clip(0, ceiling).astype(np.float64)
    return np.asarray((shown**2 if squares else shown).mean(axis=0))


def _stuck(values: NDArray[Any]) -> NDArray[np.bool_]:
    """Find pixels that hold one value above zero in all patterns, which photons never do."""
    shape = values.shape[1:]
    if len(values) < 8:
        return np.zeros(shape, bool)
    low, high = values.min(axis=0), values.max(axis=0)
    # At one count per pattern, eight equal patterns are no rare chance.
    certain = high >= (10 if len(values) >= 20 else 100)
    same = (low == high) & (high > 0) & certain
    return same if same.mean() < 0.5 else np.zeros(shape, bool)
