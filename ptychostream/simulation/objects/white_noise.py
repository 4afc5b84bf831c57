"""White noise: every pixel on its own, the hardest object there is."""

import numpy as np
from numpy.typing import NDArray


def white_noise(shape: tuple[int, int], rng: np.random.Generator) -> NDArray[np.float64]:
    """Draw every pixel on its own.

    Parameters
    ----------
    shape : (int, int)
        Rows H and columns W.

    Returns
    -------
    (H, W) float64
        Thickness, even from 0 to 1.
    """
    return rng.random(shape)
