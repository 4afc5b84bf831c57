"""Synthetic probes: one a file, found by name. Their power is set by the dose."""

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from ptychostream.errors import ConfigurationError
from ptychostream.simulation.probes.disk import disk
from ptychostream.simulation.probes.fresnel_zone_plate import fresnel_zone_plate
from ptychostream.simulation.probes.gaussian import gaussian

ProbeFunction = Callable[[int], NDArray[np.complex128]]

PROBES: dict[str, ProbeFunction] = {
    "disk": disk,
    "fresnel_zone_plate": fresnel_zone_plate,
    "gaussian": gaussian,
}


def make_probe(name: str, patch_size: int) -> NDArray[np.complex128]:
    """Make a synthetic probe.

    Parameters
    ----------
    name : str
        A key of `PROBES`.
    patch_size : int
        Edge N, in pixels.

    Returns
    -------
    (1, N, N) complex128
        The illumination, in arbitrary units.

    Raises
    ------
    ConfigurationError
        If there is no probe of this name.
    """
    if name not in PROBES:
        raise ConfigurationError(f"no probe {name!r}; there are {', '.join(sorted(PROBES))}")
    return PROBES[name](patch_size)[None]
