"""Pixels that count otherwise than their neighbours: hot, dead, gaps of zeros, behind a stop."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

#: A hot pixel is this much brighter than its third-brightest neighbour: with the beam's diffraction
#: sampled as ptychography needs it, no peak is so narrow.
_HOT = 30.0

#: Counts that the edge of a dead region must have for zero inside to be no chance.
_LIT = 60.0

#: Pixels of a hot cluster, which is compared with those two pixels away.
_CLUSTER = 4

#: Pixels behind a beam stop count together so much less than the brightest two pixels away, which
#: have this many counts each. The shadow of a zone plate's own stop is in the beam: its edge is
#: less sharp, and the object scatters light into it.
_SHADOW, _SHADOWED = 1e-3, 300.0

#: Counts of single pixels that may be chance where none are expected.
_FEW = 3

#: Fewest pixels of a shadow.
_STOP = 12


def quantum(counts: NDArray[np.float64], bad: NDArray[np.bool_], values: NDArray[Any]) -> float:
    """Find what one photon counts, as far as small counts (K, H, W) show it, or the noise.

    After a dark subtraction the negative `values` show the noise.
    """
    small = [np.percentile(seen, 1) for one in counts[:16, ~bad] if len(seen := one[one > 0])]
    unit = float(np.median(small)) if small else 1.0
    if values.dtype.kind in "if":
        below = values[:16, ~bad]
        below = below[below < 0].astype(np.float64)
        if below.size > 0.01 * values[:16, ~bad].size:
            unit = max(unit, float(np.sqrt(np.mean(below**2))))
    return unit


def is_peaked(probe: NDArray[np.complexfloating]) -> bool:
    """Return whether a beam (P, N, N) is so even that its diffraction is one pixel."""
    far = (np.abs(np.fft.fftshift(np.fft.fft2(probe), axes=(-2, -1))) ** 2).sum(axis=0)
    far *= 1e6 / max(float(far.sum()), 1e-30)
    none = np.zeros(far.shape, bool)
    return any(_brighter_than_around(far, none, distance).any() for distance in (1, 2))


def hot_pixels(
    totals: NDArray[np.float64], bad: NDArray[np.bool_], *, spare_centre: bool
) -> NDArray[np.bool_]:
    """Find hot pixels, and clusters of up to four, in sums of photons (H, W)."""
    from scipy import ndimage

    single = _brighter_than_around(totals, bad, 1)
    cluster = _brighter_than_around(totals, bad, 2)
    labels, number = ndimage.label(cluster, np.ones((3, 3)))
    sizes = np.bincount(labels.ravel(), minlength=number + 1)
    hot = single | (cluster & (sizes[labels] <= _CLUSTER) & (sizes[labels] > 1))
    if spare_centre:
        # An even beam over all of the patch has its whole diffraction in one pixel: the centre.
        row, column = totals.shape[0] // 2, totals.shape[1] // 2
        hot[row - 1 : row + 2, column - 1 : column + 2] = False
    return np.asarray(hot)


def _brighter_than_around(
    totals: NDArray[np.float64], bad: NDArray[np.bool_], distance: int
) -> NDArray[np.bool_]:
    """Find pixels far brighter than the third-brightest good one at a distance in pixels."""
    from scipy import ndimage

    around = np.ones((2 * distance + 1,) * 2, bool)
    around[1:-1, 1:-1] = False
    third = ndimage.rank_filter(np.where(bad, 0, totals), -3, footprint=around, mode="constant")
    # Where two gaps meet, too few neighbours are left to tell a narrow beam from a hot pixel.
    fewest = around.sum() * 5 // 8
    known = ndimage.correlate((~bad).astype(int), around.astype(int), mode="constant", cval=1)
    known = known >= fewest
    return np.asarray((totals > _HOT * (third + 4)) & known & ~bad)


def dead_pixels(
    totals: NDArray[np.float64], counts: NDArray[np.float64], bad: NDArray[np.bool_]
) -> NDArray[np.bool_]:
    """Find regions and whole lines that never count between pixels that count often."""
    from scipy import ndimage

    dark = (totals == 0) & ~bad
    if not dark.any() or not len(counts):
        return np.zeros_like(dark)
    regions, number = ndimage.label(dark | bad)
    found = np.zeros(dark.shape, bool)
    # In the dim corners there are hundreds of regions, of which none touches a bright pixel.
    bright = np.isin(np.arange(1, number + 1), regions[ndimage.binary_dilation(totals > _LIT)])
    boxes = ndimage.find_objects(regions)
    for label in (np.flatnonzero(bright) + 1).tolist():
        box = boxes[label - 1]
        wide = tuple(slice(max(0, part.start - 1), part.stop + 1) for part in box)
        inside = regions[wide] == label
        edge = ndimage.binary_dilation(inside) & ~inside
        if edge.any() and np.percentile(totals[wide][edge], 25) > _LIT:
            found[wide] |= inside
    lines = _dark_lines(totals, dark | bad)
    lines |= _dark_lines(totals.T, (dark | bad).T).T
    return (found | lines) & dark


def shadowed_pixels(totals: NDArray[np.float64], bad: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """Find the shadow of a beam stop in sums of photons (H, W): dark beside bright pixels."""
    from scipy import ndimage

    light = np.where(bad, 0, totals)
    brightest = ndimage.maximum_filter(light, size=5, mode="constant")
    rim = (light <= np.maximum(_SHADOW * brightest, _FEW)) & (brightest > _SHADOWED) & ~bad
    if rim.sum() < _STOP:
        return np.zeros_like(rim)
    labels, number = ndimage.label(rim | bad, np.ones((3, 3)))
    # Parts that only bad pixels join are judged together: most shadows have a stem.
    pixels, counts, around = (
        np.bincount(labels[rim], weights, minlength=number + 1)
        for weights in (None, light[rim], brightest[rim])
    )
    is_stop = (pixels >= _STOP) & (counts < _SHADOW * around) & (_SHADOW * around > 2 * _FEW)
    shadow = np.zeros_like(rim)
    for label in np.flatnonzero(is_stop):
        edge = rim & (labels == label)
        # What is further inside than two pixels lies between pixels of the edge.
        shadow |= edge | (_between(edge) & (light <= _FEW) & ~bad)
    return shadow


def _between(pixels: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """Find what lies between pixels (H, W) of a row or of a column."""
    found = np.zeros_like(pixels)
    for axis in (0, 1):
        before = np.logical_or.accumulate(pixels, axis=axis)
        after = np.flip(np.logical_or.accumulate(np.flip(pixels, axis), axis=axis), axis)
        found |= before & after
    return found


def _dark_lines(totals: NDArray[np.float64], dark: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """Find columns that never count between columns that count often, as gaps of modules.

    A gap that reaches from a bright region into a dark one is no region with a bright edge.
    """
    found = np.zeros_like(dark)
    is_dark = np.asarray(dark.all(axis=0))
    # One hot pixel makes no column bright.
    brightest = np.sort(totals, axis=0)[-2]
    runs = np.split(np.arange(len(is_dark)), np.flatnonzero(np.diff(is_dark)) + 1)
    for run in runs:
        first, last = run[0] - 1, run[-1] + 1
        if not is_dark[run[0]] or first < 0 or last >= len(is_dark):
            continue
        if min(brightest[first], brightest[last]) > _LIT and len(run) <= len(is_dark) // 4:
            found[:, run] = True
    return found
