"""Synthetic probes, found by name. Their power is set by the dose."""

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ptychostream.simulation.checks import call_by_name
from ptychostream.simulation.probes.shapes import disk, fresnel_zone_plate, gaussian
from ptychostream.simulation.probes.zernike import zernike

PROBES: dict[str, Callable[..., NDArray[np.complex128]]] = {
    "disk": disk,
    "fresnel_zone_plate": fresnel_zone_plate,
    "gaussian": gaussian,
    "zernike": zernike,
}


def make_probe(
    name: str, patch_size: int, options: Mapping[str, Any] | None = None
) -> NDArray[np.complex128]:
    """Return a named probe (1, N, N); unknown names and options are a `ConfigurationError`."""
    return call_by_name("probe", PROBES, name, (patch_size,), options)[None]
