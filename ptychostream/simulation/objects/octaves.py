"""Add noise of ever finer grain: what makes clouds of Perlin's noises."""

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from ptychostream.simulation.objects.texture import stretched
from ptychostream.simulation.options import positive

#: Draws smooth noise: takes a shape, a random generator and the edge of a cell in pixels.
NoiseFunction = Callable[[tuple[int, int], np.random.Generator, float], NDArray[np.float64]]


def add_octaves(
    noise: NoiseFunction,
    shape: tuple[int, int],
    rng: np.random.Generator,
    *,
    cell: float,
    octaves: int,
    persistence: float,
) -> NDArray[np.float64]:
    """Add octaves of a noise.

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

    Raises
    ------
    ConfigurationError
        If the cell or the number of octaves is not above zero.
    """
    positive(cell=cell, octaves=octaves)
    total = np.zeros(shape)
    for octave in range(octaves):
        total += persistence**octave * noise(shape, rng, cell / 2**octave)
    return stretched(total)
