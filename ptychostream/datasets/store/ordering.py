"""The order in which patterns lie in a store: along a Hilbert curve through their positions."""

import numpy as np
from numpy.typing import NDArray

#: Cells along one side of the curve's grid, as a power of two.
_LEVELS = 16


def hilbert_order(positions: NDArray[np.float64]) -> NDArray[np.int64]:
    """Sort positions along a Hilbert curve, so that neighbours in space are close in order.

    Parameters
    ----------
    positions : (M, 2) float64
        Scan positions (x, y).

    Returns
    -------
    (M,) int64
        Rows of `positions` in curve order; equal cells keep their order.

    References
    ----------
    Hilbert, Math. Ann. 38 (1891) 459; the bitwise walk is the textbook one.

    Examples
    --------
    >>> hilbert_order(np.array([[0.0, 0.0], [1.0, 0.0], [1.0, 1.0], [0.0, 1.0]]))
    array([0, 3, 2, 1])
    """
    low = positions.min(axis=0)
    extent = max(float((positions.max(axis=0) - low).max()), np.finfo(float).tiny)
    cells = ((positions - low) / extent * (2**_LEVELS - 1)).astype(np.int64)
    x, y = cells[:, 0].copy(), cells[:, 1].copy()
    along = np.zeros(len(positions), dtype=np.int64)
    for level in range(_LEVELS - 1, -1, -1):
        side = 1 << level
        right, upper = (x & side) > 0, (y & side) > 0
        along += side * side * ((3 * right) ^ upper)
        # Turn the quadrant so that the curve enters and leaves it at the right corners.
        flip = ~upper & right
        x[flip], y[flip] = side - 1 - (x[flip] & (side - 1)), side - 1 - (y[flip] & (side - 1))
        x[~flip] &= side - 1
        y[~flip] &= side - 1
        swap = ~upper
        x[swap], y[swap] = y[swap], x[swap].copy()
    return np.argsort(along, kind="stable").astype(np.int64)
