"""Synthetic objects, found by name.

An object function takes a shape (rows H, columns W), a random generator and options, and returns
the transmission (H, W). A `Texture` makes one of a function that draws a thickness (H, W), 0 to 1.
"""

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ptychostream.simulation.checks import call_by_name
from ptychostream.simulation.objects.bars_and_ellipses import bars_and_ellipses
from ptychostream.simulation.objects.dead_leaves import dead_leaves
from ptychostream.simulation.objects.lines import lines
from ptychostream.simulation.objects.noise import (
    blurred_noise,
    perlin_noise,
    simplex_noise,
    white_noise,
)
from ptychostream.simulation.objects.polyhedra import polyhedra
from ptychostream.simulation.objects.resolution_targets import grating, siemens_star
from ptychostream.simulation.objects.texture import Texture, stretched


def layers(
    shape: tuple[int, int],
    rng: np.random.Generator,
    *,
    film: float = 0.5,
    wires: float = 0.3,
    crystals: float = 1.0,
    bars: float = 0.4,
) -> NDArray[np.float64]:
    """Add a cloudy film, wires, crystals, and bars where the film is thick."""
    cloud = perlin_noise(shape, rng)
    total = film * cloud
    total += wires * lines(shape, rng, lines_per_pixel=0.001)
    total += crystals * polyhedra(shape, rng, coverage=0.4)
    total += bars * grating(shape, rng) * (cloud > 0.6)
    return stretched(total)


OBJECTS: dict[str, Callable[..., NDArray[np.complex64]]] = {
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
    """Return a named object (H, W), of amplitude at most 1.

    `options`: keyword options of the object's function; of a texture also `absorption`,
        `phase_shift` and `structure`.
    """
    return call_by_name("object", OBJECTS, name, (shape, rng), options)
