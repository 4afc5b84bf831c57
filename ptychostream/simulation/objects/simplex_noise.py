"""Perlin's simplex noise in octaves: clouds without the directions of a square grid."""

import numpy as np
from numpy.typing import NDArray

from ptychostream.simulation.objects.octaves import add_octaves

#: Moves the corners of squares onto those of equilateral triangles, and back.
_SKEW = (np.sqrt(3) - 1) / 2
_UNSKEW = (3 - np.sqrt(3)) / 6
#: Squared reach of a corner's gradient, the height of a triangle: its neighbours' noise is zero
#: with all derivatives there.
_REACH2 = 0.5


def simplex_noise(
    shape: tuple[int, int],
    rng: np.random.Generator,
    *,
    cell: float = 48.0,
    octaves: int = 4,
    persistence: float = 0.5,
) -> NDArray[np.float64]:
    """Add octaves of simplex noise.

    Parameters
    ----------
    shape : (int, int)
        Rows H and columns W.
    cell : float
        Height of a pair of triangles of the coarsest octave along the diagonal of the grid, as
        for `perlin_noise` in pixels; each next one is half.

    Returns
    -------
    (H, W) float64
        Thickness from 0 to 1.

    References
    ----------
    Perlin, Noise hardware, SIGGRAPH course notes (2001).
    """
    return add_octaves(_octave, shape, rng, cell=cell, octaves=octaves, persistence=persistence)


def _octave(shape: tuple[int, int], rng: np.random.Generator, cell: float) -> NDArray[np.float64]:
    down, right = np.ogrid[: shape[0], : shape[1]]
    down, right = down / cell, right / cell
    skewed = (down + right) * _SKEW
    row, column = np.floor(down + skewed).astype(int), np.floor(right + skewed).astype(int)
    angle = rng.uniform(0, 2 * np.pi, (row.max() + 2, column.max() + 2))
    straight = (row + column) * _UNSKEW
    below, beside = down - row + straight, right - column + straight
    # Of the square's two triangles, the one with the third corner below or the one beside.
    lower = (below > beside).astype(int)
    return (
        _corner(angle[row, column], below, beside)
        + _corner(
            angle[row + lower, column + 1 - lower],
            below - lower + _UNSKEW,
            beside - 1 + lower + _UNSKEW,
        )
        + _corner(angle[row + 1, column + 1], below - 1 + 2 * _UNSKEW, beside - 1 + 2 * _UNSKEW)
    )


def _corner(
    angle: NDArray[np.float64], below: NDArray[np.float64], beside: NDArray[np.float64]
) -> NDArray[np.float64]:
    """Fade the gradient of a corner with distance from it."""
    fade = np.maximum(_REACH2 - below**2 - beside**2, 0) ** 4
    return np.asarray(fade * (np.sin(angle) * below + np.cos(angle) * beside))
