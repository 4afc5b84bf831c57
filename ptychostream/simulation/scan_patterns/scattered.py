"""Positions that fall anywhere."""

import numpy as np
from numpy.typing import NDArray


def scattered(number: int, step: float, rng: np.random.Generator) -> NDArray[np.float64]:
    """Draw positions at random in a square.

    Returns
    -------
    (M, 2) float64
        Positions (x, y).
    """
    return rng.uniform(0, step * np.sqrt(number), (number, 2))
