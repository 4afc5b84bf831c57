"""Perlin's gradient noise in octaves: clouds without a preferred length."""

import numpy as np
from numpy.typing import NDArray

from ptychostream.simulation.objects.octaves import add_octaves


def perlin_noise(
    shape: tuple[int, int],
    rng: np.random.Generator,
    *,
    cell: float = 48.0,
    octaves: int = 4,
    persistence: float = 0.5,
) -> NDArray[np.float64]:
    """Add octaves of gradient noise.

    Parameters
    ----------
    shape : (int, int)
        Rows H and columns W.
    cell : float
        Edge of a cell of the coarsest octave, in pixels; each next one is half.

    Returns
    -------
    (H, W) float64
        Thickness from 0 to 1.

    References
    ----------
    Perlin, SIGGRAPH Comput. Graph. 19 (1985) 287; ACM Trans. Graph. 21 (2002) 681.
    """
    return add_octaves(_octave, shape, rng, cell=cell, octaves=octaves, persistence=persistence)


def _octave(shape: tuple[int, int], rng: np.random.Generator, cell: float) -> NDArray[np.float64]:
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
