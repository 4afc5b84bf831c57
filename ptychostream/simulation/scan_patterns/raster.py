"""Rows of positions: even, displaced, and back and forth."""

import numpy as np
from numpy.typing import NDArray


def raster(number: int, step: float, rng: np.random.Generator) -> NDArray[np.float64]:
    """Scan row after row, as nearly square as `number` allows.

    Returns
    -------
    (M, 2) float64
        Positions (x, y).
    """
    columns = int(np.ceil(np.sqrt(number)))
    index = np.arange(number)
    return step * np.stack([index % columns, index // columns], axis=1).astype(float)


def jittered_raster(number: int, step: float, rng: np.random.Generator) -> NDArray[np.float64]:
    """Scan a raster whose positions are displaced by up to a quarter of a step.

    The displacement breaks the regularity that otherwise shows as a grid in reconstructions.

    Returns
    -------
    (M, 2) float64
        Positions (x, y).
    """
    return raster(number, step, rng) + rng.uniform(0, step / 2, (number, 2))


def snake(number: int, step: float, rng: np.random.Generator) -> NDArray[np.float64]:
    """Scan a raster whose every second row goes back, so that the stage never jumps.

    Returns
    -------
    (M, 2) float64
        Positions (x, y).
    """
    positions = raster(number, step, rng)
    columns = int(np.ceil(np.sqrt(number)))
    back = np.arange(number) // columns % 2 == 1
    positions[back, 0] = step * (columns - 1) - positions[back, 0]
    return positions
