"""Where the beam stops: positions (x, y) in pixels, relative to the first possible centre."""

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from ptychostream.errors import ConfigurationError

Pattern = Callable[[int, float, np.random.Generator], NDArray[np.float64]]


def raster(number: int, step: float, rng: np.random.Generator) -> NDArray[np.float64]:
    """Scan row after row, as nearly square as `number` allows.

    Parameters
    ----------
    number : int
        Positions M.
    step : float
        Distance of neighbours, in pixels.
    rng : numpy.random.Generator
        Not used: a raster is regular.

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

    Parameters
    ----------
    number : int
        Positions M.
    step : float
        Mean distance of neighbours, in pixels.
    rng : numpy.random.Generator
        Source of the displacements.

    Returns
    -------
    (M, 2) float64
        Positions (x, y).
    """
    return raster(number, step, rng) + rng.uniform(0, step / 2, (number, 2))


def spiral(number: int, step: float, rng: np.random.Generator) -> NDArray[np.float64]:
    """Scan a Fermat spiral of even density.

    Parameters
    ----------
    number : int
        Positions M.
    step : float
        Distance of neighbours, in pixels: each position has an area of step².
    rng : numpy.random.Generator
        Not used: a spiral is regular.

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


SCAN_PATTERNS: dict[str, Pattern] = {
    "jittered_raster": jittered_raster,
    "raster": raster,
    "spiral": spiral,
}


def make_positions(
    name: str, number: int, step: float, rng: np.random.Generator
) -> NDArray[np.float64]:
    """Make scan positions.

    Parameters
    ----------
    name : str
        A key of `SCAN_PATTERNS`.
    number : int
        Positions M.
    step : float
        Distance of neighbours, in pixels.
    rng : numpy.random.Generator
        Source of randomness.

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
