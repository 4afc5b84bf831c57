"""Rings about a centre."""

import numpy as np
from numpy.typing import NDArray


def concentric(number: int, step: float, rng: np.random.Generator) -> NDArray[np.float64]:
    """Scan rings that lie a step apart, from the centre outwards.

    Each ring is turned by a random angle, so that no spokes appear.

    Parameters
    ----------
    step : float
        Distance of neighbours on a ring and of rings, in pixels.

    Returns
    -------
    (M, 2) float64
        Positions (x, y).
    """
    rings = [np.zeros((1, 2))]
    left = number - 1
    while left > 0:
        ring = len(rings)
        on_ring = min(round(2 * np.pi * ring), left)
        angle = rng.uniform(0, 2 * np.pi) + 2 * np.pi * np.arange(on_ring) / on_ring
        rings.append(ring * step * np.stack([np.cos(angle), np.sin(angle)], axis=1))
        left -= on_ring
    positions = np.concatenate(rings)
    return np.asarray(positions - positions.min(axis=0))
