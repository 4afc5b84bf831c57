"""Find the pixels of a scan that hold no measurement, before its values are used.

A pixel is judged over the scan, so that rare events do not count: gaps that hold the largest value
of their type or NaN, stuck, hot and dead pixels. Nothing here changes a value.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from ptychostream.errors import DataContractError
from ptychostream.scan import PatternSource

#: Patterns of a sample, and bytes that it may take.
_SAMPLE, _SAMPLE_BYTES = 64, 2**24

#: A hot pixel is this much brighter than its third-brightest neighbour: with the beam's diffraction
#: sampled as ptychography needs it, no peak is so narrow.
_HOT = 30.0

#: Counts that the edge of a dead region must have for zero inside to be no chance.
_LIT = 60.0

#: A pattern with this part of its pixels at the largest value is lost, not its pixels.
_LOST = 0.2

#: Largest values of detectors' own types, which are often kept in larger ones, with their
#: neighbours that mark dead and masked pixels.
_SENTINELS = tuple(2**bits - below for bits in (16, 31, 32, 63, 64) for below in (1, 2))
_MARKS = frozenset(float(np.float64(mark)) for mark in _SENTINELS) | frozenset(
    float(np.float32(mark)) for mark in _SENTINELS
)


class UnflaggedValuesError(DataContractError):
    """A pattern outside the examined sample holds values that are no measurement."""


@dataclass(frozen=True, eq=False, kw_only=True)
class Survey:
    """What was seen of a scan's patterns, as the file holds them.

    Attributes
    ----------
    rows : (K,) int64
        Patterns that were looked at.
    sample : (K, H, W)
        Their values, of at most some megabytes.
    mean : (H, W) float64
        Mean of the good values of each pixel; zero where there is none.
    light : (H, W) float64
        Mean counts of each pixel, whether it is flagged or not; zero where it is no number.
    bad : (H, W) bool
        Pixels that are no measurement.
    lost : (L,) int64
        Patterns that are saturated all over.
    ceiling : float, optional
        Value from which on a pixel is no measurement.
    findings : dict
        How many pixels are bad for which reason.
    """

    rows: NDArray[np.int64]
    sample: NDArray[Any]
    mean: NDArray[np.float64]
    light: NDArray[np.float64]
    bad: NDArray[np.bool_]
    lost: NDArray[np.int64]
    ceiling: float | None
    findings: dict[str, int]


def survey(
    source: PatternSource,
    *,
    bad: NDArray[np.bool_] | None,
    saturation: float | None,
    every: bool,
    name: str,
    squares: bool,
) -> Survey:
    """Look at a sample of the patterns, or at all of them.

    Parameters
    ----------
    bad : (H, W) bool, optional
        Pixels that are known to be bad.
    saturation : float, optional
        Value from which on a pixel is no measurement.
    every : bool
        Whether all patterns are looked at for saturated pixels.
    squares : bool
        Whether the values are amplitudes: their squares are counts.
    """
    rows, sample = _sample(source)
    shape = sample.shape[1:]
    known = np.zeros(shape, bool) if bad is None else bad
    ceiling = _ceiling_of(sample.dtype, saturation)
    flagged: dict[str, NDArray[np.bool_]] = {}
    finite = np.isfinite(sample)
    if saturation is None:
        mark = _lowest_mark(sample, finite)
        ceiling = mark if mark is not None else ceiling
    high = np.zeros(sample.shape, bool)
    if ceiling is not None:
        with np.errstate(invalid="ignore"):
            high |= sample >= ceiling
    share = high.mean(axis=(1, 2)) if len(sample) else np.zeros(0)
    # A gap is in every pattern; a lost pattern is saturated beyond what is so in most.
    lost_here = share > np.median(share) + _LOST
    high_pixels = np.asarray((high[~lost_here] if (~lost_here).any() else high).any(axis=0))
    lost = rows[lost_here]
    if every and ceiling is not None:
        lost, high_pixels = _every(source, ceiling, lost, high_pixels)
    flagged["saturated, or the largest value of their type"] = high_pixels & ~known
    usable = sample[~lost_here] if (~lost_here).any() else sample
    ok = finite[~lost_here] if (~lost_here).any() else finite
    lit = usable if sample.dtype.kind != "f" else np.where(ok, usable, 0)
    flagged["NaN or infinite"] = ~ok.all(axis=0) & _mostly(~ok)
    flagged["negative throughout"] = (
        _mostly(lit < 0) if sample.dtype.kind in "if" else np.zeros(shape, bool)
    )
    spoiled = high_pixels | flagged["NaN or infinite"] | flagged["negative throughout"]
    found = known | spoiled
    counts = np.maximum(lit, 0).astype(np.float64)
    if squares:
        counts = counts**2
    totals = counts.sum(axis=0)
    light = np.where(spoiled | _stuck(lit), 0, totals / max(1, len(usable)))
    totals[found] = 0
    flagged["stuck at one value"] = _stuck(lit) & ~found
    found = found | flagged["stuck at one value"]
    totals[found] = 0
    unit = _quantum(counts, found)
    flagged["hot"] = _hot(totals / unit, found)
    found = found | flagged["hot"]
    flagged["dead"] = _dead(totals / unit, counts, found)
    found = found | flagged["dead"]
    mean = np.where(found, 0, totals / max(1, len(usable)))
    return Survey(
        rows=rows,
        sample=sample,
        mean=mean,
        light=light,
        bad=found,
        lost=lost,
        ceiling=ceiling,
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


def _ceiling_of(dtype: np.dtype[Any], saturation: float | None) -> float | None:
    if saturation is not None:
        return saturation
    # Small types are also made by scaling, and then use their whole range.
    if dtype.kind in "ui" and dtype.itemsize > 1:
        return float(np.iinfo(dtype).max)
    return None


def _lowest_mark(values: NDArray[Any], finite: NDArray[np.bool_]) -> float | None:
    """Find the lowest of the detectors' largest values that only such values reach."""
    top = float(np.max(values, initial=0, where=finite))
    if top < min(_SENTINELS):
        return None
    distinct = np.unique(values[(values >= min(_SENTINELS)) & finite].astype(np.float64))
    lowest = None
    for value in distinct[::-1]:
        if value not in _MARKS:
            break
        lowest = float(value)
    return lowest


def _mostly(where: NDArray[np.bool_]) -> NDArray[np.bool_]:
    usual = where.mean(axis=0) > 0.5
    # If most pixels are affected, the pixels are not bad, but the file: it is refused.
    return np.asarray(usual) if usual.mean() < 0.5 else np.zeros_like(usual)


def _every(
    source: PatternSource,
    ceiling: float,
    lost: NDArray[np.int64],
    pixels: NDArray[np.bool_],
) -> tuple[NDArray[np.int64], NDArray[np.bool_]]:
    """Look at all patterns for values from the ceiling on."""
    gone, start, pixels = set(lost.tolist()), 0, pixels.copy()
    usual = pixels.mean()
    for block in source.blocks(64):
        if block.size and np.max(block) >= ceiling:
            for number, pattern in enumerate(block, start):
                high = pattern >= ceiling
                if high.mean() > usual + _LOST:
                    gone.add(number)
                elif number not in gone:
                    pixels |= high
        start += len(block)
    return np.array(sorted(gone), np.int64), pixels


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


def _quantum(counts: NDArray[np.float64], bad: NDArray[np.bool_]) -> float:
    """Find what one photon counts, as far as small values show it."""
    seen = counts[:16][:, ~bad]
    seen = seen[seen > 0]
    return float(np.percentile(seen, 1)) if seen.size else 1.0


def _hot(totals: NDArray[np.float64], bad: NDArray[np.bool_]) -> NDArray[np.bool_]:
    around = np.ones((3, 3), bool)
    around[1, 1] = False
    third = ndimage.rank_filter(totals, -3, footprint=around, mode="reflect")
    hot = (totals > _HOT * (third + 4)) & ~bad
    # An even beam over all of the patch has its whole diffraction in one pixel: the centre.
    row, column = totals.shape[0] // 2, totals.shape[1] // 2
    hot[row - 1 : row + 2, column - 1 : column + 2] = False
    return np.asarray(hot)


def _dead(
    totals: NDArray[np.float64], counts: NDArray[np.float64], bad: NDArray[np.bool_]
) -> NDArray[np.bool_]:
    """Find regions that never count between pixels that count often."""
    dark = (totals == 0) & ~bad
    if not dark.any() or not len(counts):
        return dark
    regions, _ = ndimage.label(dark | bad)
    found = np.zeros(dark.shape, bool)
    for label, box in enumerate(ndimage.find_objects(regions), 1):
        wide = tuple(slice(max(0, part.start - 1), part.stop + 1) for part in box)
        inside = regions[wide] == label
        edge = ndimage.binary_dilation(inside) & ~inside
        if edge.any() and np.percentile(totals[wide][edge], 25) > _LIT:
            found[wide] |= inside
    return found & dark
