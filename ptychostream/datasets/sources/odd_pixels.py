"""Pixels that count otherwise than their neighbours: hot, dead, and gaps that hold zero."""

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
