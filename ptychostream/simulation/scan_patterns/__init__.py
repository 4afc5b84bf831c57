"""Scan patterns: one kind a file, found by name.

A pattern function takes the number of positions, a step and a random generator, and returns
positions (x, y) in pixels, relative to the first possible centre.
"""

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from ptychostream.errors import ConfigurationError
from ptychostream.simulation.scan_patterns.concentric import concentric
from ptychostream.simulation.scan_patterns.raster import jittered_raster, raster, snake
from ptychostream.simulation.scan_patterns.scattered import scattered
from ptychostream.simulation.scan_patterns.spiral import spiral

Pattern = Callable[[int, float, np.random.Generator], NDArray[np.float64]]

SCAN_PATTERNS: dict[str, Pattern] = {
    "concentric": concentric,
    "jittered_raster": jittered_raster,
    "random": scattered,
    "raster": raster,
    "snake": snake,
    "spiral": spiral,
}


def make_positions(
    name: str, number: int, step: float, rng: np.random.Generator
) -> NDArray[np.float64]:
    """Make scan positions.

    Returns
    -------
    (M, 2) float64
        Positions (x, y), the least of each coordinate near 0.

    Raises
    ------
    ConfigurationError
        If there is no pattern of this name.
    """
    if name not in SCAN_PATTERNS:
        raise ConfigurationError(
            f"no scan pattern {name!r}; there are {', '.join(sorted(SCAN_PATTERNS))}"
        )
    return SCAN_PATTERNS[name](number, step, rng)
