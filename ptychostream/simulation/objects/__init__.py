"""Synthetic objects: one a file, found by name.

An object function takes a shape, a random generator and options, and returns the transmission.
A `Texture` makes one of a function that draws a thickness.
"""

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ptychostream.errors import ConfigurationError
from ptychostream.simulation.objects.bars_and_ellipses import bars_and_ellipses
from ptychostream.simulation.objects.blurred_noise import blurred_noise
from ptychostream.simulation.objects.dead_leaves import dead_leaves
from ptychostream.simulation.objects.grating import grating
from ptychostream.simulation.objects.layers import layers
from ptychostream.simulation.objects.lines import lines
from ptychostream.simulation.objects.perlin_noise import perlin_noise
from ptychostream.simulation.objects.polyhedra import polyhedra
from ptychostream.simulation.objects.siemens_star import siemens_star
from ptychostream.simulation.objects.simplex_noise import simplex_noise
from ptychostream.simulation.objects.texture import Texture
from ptychostream.simulation.objects.white_noise import white_noise
from ptychostream.simulation.options import call_with_options, check_options

ObjectFunction = Callable[..., NDArray[np.complex64]]

OBJECTS: dict[str, ObjectFunction] = {
    "bars_and_ellipses": bars_and_ellipses,
    "blurred_noise": Texture(blurred_noise),
    "dead_leaves": dead_leaves,
    "grating": Texture(grating),
    "layers": Texture(layers, "linked"),
    "lines": Texture(lines),
    "perlin_noise": Texture(perlin_noise),
    "polyhedra": Texture(polyhedra, "linked"),
    "siemens_star": siemens_star,
    "simplex_noise": Texture(simplex_noise),
    "white_noise": Texture(white_noise),
}


def make_object(
    name: str,
    shape: tuple[int, int],
    rng: np.random.Generator,
    options: Mapping[str, Any] | None = None,
) -> NDArray[np.complex64]:
    """Make a synthetic object.

    Parameters
    ----------
    shape : (int, int)
        Rows H and columns W.
    options : mapping, optional
        Keyword options of the object's function; of a texture also `absorption`, `phase_shift`
        and `structure`.

    Returns
    -------
    (H, W) complex64
        Transmission: amplitude at most 1.

    Raises
    ------
    ConfigurationError
        If there is no object of this name, or it has no such option.
    """
    if name not in OBJECTS:
        raise ConfigurationError(f"no object {name!r}; there are {', '.join(sorted(OBJECTS))}")
    function = OBJECTS[name]
    parts = (function, function.thickness) if isinstance(function, Texture) else (function,)
    chosen = check_options(f"object {name!r}", parts, options)
    return call_with_options(f"object {name!r}", function, (shape, rng), chosen)
