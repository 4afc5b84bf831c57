"""Layers of different kinds one above the other, as in a real sample."""

import numpy as np
from numpy.typing import NDArray

from ptychostream.simulation.objects.grating import grating
from ptychostream.simulation.objects.lines import lines
from ptychostream.simulation.objects.perlin_noise import perlin_noise
from ptychostream.simulation.objects.polyhedra import polyhedra
from ptychostream.simulation.objects.texture import stretched


def layers(
    shape: tuple[int, int],
    rng: np.random.Generator,
    *,
    film: float = 0.5,
    wires: float = 0.3,
    crystals: float = 1.0,
    bars: float = 0.4,
) -> NDArray[np.float64]:
    """Add a cloudy film, wires, crystals, and bars where the film is thick.

    Parameters
    ----------
    shape : (int, int)
        Rows H and columns W.

    Returns
    -------
    (H, W) float64
        Thickness from 0 to 1.
    """
    cloud = perlin_noise(shape, rng)
    total = film * cloud
    total += wires * lines(shape, rng, lines_per_pixel=0.001)
    total += crystals * polyhedra(shape, rng, coverage=0.4)
    total += bars * grating(shape, rng) * (cloud > 0.6)
    return stretched(total)
