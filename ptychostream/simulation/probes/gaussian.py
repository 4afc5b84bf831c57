"""A Gaussian beam with a curved wave front."""

import numpy as np
from numpy.typing import NDArray

from ptychostream.simulation.probes.frame import squared_radius


def gaussian(
    patch_size: int, *, full_width: float | None = None, edge_phase: float = 6.0
) -> NDArray[np.complex128]:
    """Draw a Gaussian amplitude with a quadratic phase.

    Parameters
    ----------
    full_width : float, optional
        Full width at half maximum of the amplitude, in pixels; None is 18/64 of the edge.
    edge_phase : float
        Phase at a distance of N/2 from the centre, in radians.

    Returns
    -------
    (N, N) complex128
        The probe, in arbitrary units.
    """
    width = 18 / 64 * patch_size if full_width is None else full_width
    radius2 = squared_radius(patch_size)
    amplitude = np.exp(-4 * np.log(2) * radius2 / width**2)
    return np.asarray(amplitude * np.exp(1j * edge_phase * radius2 / (patch_size / 2) ** 2))
