"""A Fermat spiral."""

import numpy as np
from numpy.typing import NDArray


def spiral(number: int, step: float, rng: np.random.Generator) -> NDArray[np.float64]:
    """Scan a Fermat spiral of even density.

    Parameters
    ----------
    step : float
        Distance of neighbours, in pixels: each position has an area of step².

    Returns
    -------
    (M, 2) float64
        Positions (x, y).
    """
    index = np.arange(number)
    radius = step * np.sqrt(index / np.pi)
    angle = index * np.pi * (3 - np.sqrt(5))
    positions = np.stack([radius * np.cos(angle), radius * np.sin(angle)], axis=1)
    return np.asarray(positions - positions.min(axis=0))
