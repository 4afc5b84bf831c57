"""Whether positions have others nearby, without the distances of all of them."""

import numpy as np
from numpy.typing import NDArray


def as_points(positions: NDArray[np.float64]) -> NDArray[np.complex128]:
    """Return positions (M, 2) as x + iy (M,), which are sorted several times faster than rows."""
    return np.ascontiguousarray(positions, np.float64).view(np.complex128)[:, 0]


def has_near(positions: NDArray[np.float64], distance: float) -> NDArray[np.bool_]:
    """Return which positions (M, 2) share a square cell with another one.

    The diagonal of a cell is the distance, so that these certainly have one within it; others may.
    """
    cell = distance / np.sqrt(2)
    columns, rows = np.floor((positions - positions.min(axis=0)) / cell).T
    _, inverse, number = np.unique(columns + 1j * rows, return_inverse=True, return_counts=True)
    return np.asarray(number[inverse] > 1)
