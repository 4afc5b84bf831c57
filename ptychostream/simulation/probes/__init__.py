"""Synthetic probes: one a file, found by name. Their power is set by the dose."""

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ptychostream.errors import ConfigurationError
from ptychostream.simulation.options import call_with_options, check_options
from ptychostream.simulation.probes.disk import disk
from ptychostream.simulation.probes.fresnel_zone_plate import fresnel_zone_plate
from ptychostream.simulation.probes.gaussian import gaussian
from ptychostream.simulation.probes.zernike import zernike

ProbeFunction = Callable[..., NDArray[np.complex128]]

PROBES: dict[str, ProbeFunction] = {
    "disk": disk,
    "fresnel_zone_plate": fresnel_zone_plate,
    "gaussian": gaussian,
    "zernike": zernike,
}


def make_probe(
    name: str, patch_size: int, options: Mapping[str, Any] | None = None
) -> NDArray[np.complex128]:
    """Make a synthetic probe.

    Returns
    -------
    (1, N, N) complex128
        The illumination, in arbitrary units.

    Raises
    ------
    ConfigurationError
        If there is no probe of this name, or it has no such option.
    """
    if name not in PROBES:
        raise ConfigurationError(f"no probe {name!r}; there are {', '.join(sorted(PROBES))}")
    function = PROBES[name]
    chosen = check_options(f"probe {name!r}", (function,), options)
    return call_with_options(f"probe {name!r}", function, (patch_size,), chosen)[None]
