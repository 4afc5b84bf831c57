"""Noise textures: white, blurred, and clouds of Perlin's gradient and simplex noise."""

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import gaussian_filter

from ptychostream.simulation.checks import check_positive
from ptychostream.simulation.objects.texture import stretched

#: Draws one octave of smooth noise (H, W): takes a shape, a generator and a cell's edge in pixels.
Octave = Callable[[tuple[int, int], np.random.Generator, float], NDArray[np.float64]]

#: Moves the corners of squares onto those of equilateral triangles, and back.
_SKEW = (np.sqrt(3) - 1) / 2
_UNSKEW = (3 - np.sqrt(3)) / 6
#: Squared distance at which a corner's contribution ends, the height of a triangle: neighbouring
#: contributions and all their derivatives are zero there.
_REACH2 = 0.5


def white_noise(shape: tuple[int, int], rng: np.random.Generator) -> NDArray[np.float64]:
    """Draw every pixel of a thickness (H, W) independently, uniform from 0 to 1."""
    return rng.random(shape)


def blurred_noise(
    shape: tuple[int, int], rng: np.random.Generator, *, blur: float = 4.0
) -> NDArray[np.float64]:
    """Blur white noise (H, W) with a Gaussian of this standard deviation in pixels."""
    check_positive(blur=blur)
    return stretched(gaussian_filter(rng.standard_normal(shape), blur))


def perlin_noise(
    shape: tuple[int, int],
    rng: np.random.Generator,
    *,
    cell: float = 48.0,
    octaves: int = 4,
    persistence: float = 0.5,
) -> NDArray[np.float64]:
    """Add octaves of gradient noise on a square grid.

    `cell`: edge of a cell of the coarsest octave, in pixels; each next one is half.
    `persistence`: weight of an octave relative to the one before.

    References
    ----------
    Perlin, SIGGRAPH Comput. Graph. 19 (1985) 287; ACM Trans. Graph. 21 (2002) 681.
    """
    return _add_octaves(_perlin, shape, rng, cell, octaves, persistence)


def simplex_noise(
    shape: tuple[int, int],
    rng: np.random.Generator,
    *,
    cell: float = 48.0,
    octaves: int = 4,
    persistence: float = 0.5,
) -> NDArray[np.float64]:
    """Add octaves of simplex noise, without preferred directions; the options of `perlin_noise`.

    References
    ----------
    Perlin, Noise hardware, SIGGRAPH course notes (2001).
    """
    return _add_octaves(_simplex, shape, rng, cell, octaves, persistence)


def _add_octaves(
    draw: Octave,
    shape: tuple[int, int],
    rng: np.random.Generator,
    cell: float,
    octaves: int,
    persistence: float,
) -> NDArray[np.float64]:
    check_positive(cell=cell, octaves=octaves)
    total = np.zeros(shape)
    for octave in range(octaves):
        total += persistence**octave * draw(shape, rng, cell / 2**octave)
    return stretched(total)


def _perlin(shape: tuple[int, int], rng: np.random.Generator, cell: float) -> NDArray[np.float64]:
    rows, columns = (np.arange(length) / cell for length in shape)
    top, left = rows.astype(int), columns.astype(int)
    down, right = (rows - top)[:, None], (columns - left)[None, :]
    angle = rng.uniform(0, 2 * np.pi, (top[-1] + 2, left[-1] + 2))

    def corner(below: int, beside: int) -> NDArray[np.float64]:
        turned = angle[np.ix_(top + below, left + beside)]
        return np.asarray(np.sin(turned) * (down - below) + np.cos(turned) * (right - beside))

    fade_down, fade_right = (t**3 * (t * (6 * t - 15) + 10) for t in (down, right))
    upper = corner(0, 0) * (1 - fade_right) + corner(0, 1) * fade_right
    lower = corner(1, 0) * (1 - fade_right) + corner(1, 1) * fade_right
    return np.asarray(upper * (1 - fade_down) + lower * fade_down)


def _simplex(shape: tuple[int, int], rng: np.random.Generator, cell: float) -> NDArray[np.float64]:
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
