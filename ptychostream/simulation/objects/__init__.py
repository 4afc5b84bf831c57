"""Synthetic objects: one a file, found by name.

An object function takes a shape and a random generator, and returns the transmission.
"""

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from ptychostream.errors import ConfigurationError
from ptychostream.simulation.objects.bars_and_ellipses import bars_and_ellipses
from ptychostream.simulation.objects.dead_leaves import dead_leaves
from ptychostream.simulation.objects.siemens_star import siemens_star

ObjectFunction = Callable[[tuple[int, int], np.random.Generator], NDArray[np.complex64]]

OBJECTS: dict[str, ObjectFunction] = {
    "bars_and_ellipses": bars_and_ellipses,
    "dead_leaves": dead_leaves,
    "siemens_star": siemens_star,
}


def make_object(
    name: str, shape: tuple[int, int], rng: np.random.Generator
) -> NDArray[np.complex64]:
    """Make a synthetic object.

    Parameters
    ----------
    name : str
        A key of `OBJECTS`.
    shape : (int, int)
        Rows H and columns W.
    rng : numpy.random.Generator
        Source of randomness.

    Returns
    -------
    (H, W) complex64
        Transmission: amplitude at most 1.

    Raises
    ------
    ConfigurationError
        If there is no object of this name.
    """
    if name not in OBJECTS:
        raise ConfigurationError(f"no object {name!r}; there are {', '.join(sorted(OBJECTS))}")
    return OBJECTS[name](shape, rng)
