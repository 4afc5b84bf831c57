"""How far the stage is from where it should be: drift and position noise."""

import numpy as np
from numpy.typing import NDArray


def displacements(
    number: int,
    rng: np.random.Generator,
    *,
    drift: tuple[float, float] = (0.0, 0.0),
    position_noise: float = 0.0,
) -> NDArray[np.float64]:
    """Displace positions by an even drift and by noise.

    Parameters
    ----------
    drift : (float, float)
        Displacement (x, y) of the last position from the first, in pixels.

    Returns
    -------
    (M, 2) float64
        True minus nominal position (x, y), in pixels.
    """
    along = np.linspace(0, 1, number)[:, None] * np.asarray(drift, dtype=np.float64)
    return np.asarray(along + position_noise * rng.standard_normal((number, 2)))
