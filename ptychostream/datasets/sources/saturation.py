"""Values that are no measurement: those at a detector's largest value, NaN, lost patterns."""

from collections.abc import Iterable, Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray

#: A pattern with this part of its pixels at the largest value is lost, not its pixels.
_LOST = 0.2

#: Largest value below which there are too few whole numbers to tell.
_CLIPPED = 14

#: Largest values of detectors' own types, which are often kept in larger ones, with their
#: neighbours that mark dead and masked pixels.
_SENTINELS = tuple(2**bits - below for bits in (16, 31, 32, 63, 64) for below in (1, 2))
_MARKS = frozenset(float(np.float64(mark)) for mark in _SENTINELS) | frozenset(
    float(np.float32(mark)) for mark in _SENTINELS
)


def ceiling_of(dtype: np.dtype[Any], saturation: float | None) -> float | None:
    """Return the value from which on a pixel is no measurement, as given or by its type."""
    if saturation is not None:
        return saturation
    # Small types are also made by scaling, and then use their whole range.
    if dtype.kind in "ui" and dtype.itemsize > 1:
        return float(np.iinfo(dtype).max)
    return None


def lowest_mark(values: NDArray[Any], finite: NDArray[np.bool_]) -> float | None:
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


def clipped_at(values: NDArray[Any], known: NDArray[np.bool_]) -> float | None:
    """Find a largest value that many pixels reach, as those of a detector that counts no further.

    Of an unlimited detector it is rarer than any value below.
    """
    good = values[:, ~known]
    constant = good.max(axis=1, initial=0) == good.min(axis=1, initial=0)
    good = np.where(np.isfinite(good), good, 0)[~constant]
    top = good.max(initial=0)
    if not top >= _CLIPPED:
        return None
    at_top = good == top
    patterns, pixels = at_top.any(axis=1).sum(), at_top.any(axis=0).sum()
    below = good[(good >= 0.9 * float(top)) & ~at_top]
    usual = len(below) / max(1, len(np.unique(below)))
    # One such pixel a pattern: each was divided by its own largest value.
    is_clipped = pixels >= 4 and at_top.sum() > max(9, 2 * patterns, 5 * usual)
    return float(top) if is_clipped else None


def wrong_values(values: NDArray[Any], ceiling: float | None) -> NDArray[np.bool_]:
    """Return which values are no measurement: from the ceiling on, NaN or infinite."""
    wrong = ~np.isfinite(values) if values.dtype.kind == "f" else np.zeros(values.shape, bool)
    if ceiling is not None:
        with np.errstate(invalid="ignore"):
            wrong |= values >= ceiling
    return wrong


def numbered(blocks: Iterable[NDArray[Any]]) -> Iterator[tuple[NDArray[np.int64], NDArray[Any]]]:
    """Yield blocks of patterns with their numbers."""
    start = 0
    for block in blocks:
        yield np.arange(start, start + len(block)), block
        start += len(block)


def tally(
    blocks: Iterable[tuple[NDArray[np.int64], NDArray[Any]]],
    ceiling: float | None,
    usual: NDArray[np.bool_],
    known: NDArray[np.bool_],
    *,
    with_nan: bool,
) -> tuple[list[int], list[int], NDArray[np.int64]]:
    """Find patterns that are lost, those with other wrong values, and how often pixels are wrong.

    `usual` (H, W) are the pixels that are wrong in most patterns: a gap is in every one. NaN
    elsewhere counts only if it is asked for: without, the patterns that hold it are refused.
    """
    lost: list[int] = []
    partly: list[int] = []
    times = np.zeros(usual.shape, np.int64)
    for numbers, block in blocks:
        wrong = wrong_values(block, ceiling)
        good = block[:, ~(usual | known)]
        gone = wrong.mean(axis=(1, 2)) > usual.mean() + _LOST
        if good.shape[1] > 1:
            # One value all over is no pattern; zero is a dark one, which is said elsewhere.
            gone |= (good.max(axis=1) == good.min(axis=1)) & (good[:, 0] > 0)
        lost += numbers[gone].tolist()
        own = wrong[~gone]
        if not with_nan and block.dtype.kind == "f":
            own &= usual | np.isfinite(block[~gone])
        times += own.sum(axis=0)
        partly += numbers[~gone][(own & ~usual & ~known).any(axis=(1, 2))].tolist()
    return lost, partly, times
