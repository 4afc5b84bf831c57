"""A pinhole: a disk with a soft edge."""

import numpy as np
from numpy.typing import NDArray

from ptychostream.simulation.probes.frame import squared_radius


def disk(
    patch_size: int, *, diameter: float | None = None, edge_phase: float = 3.0
) -> NDArray[np.complex128]:
    """Draw a disk with an edge one pixel wide and a quadratic phase.

    Parameters
    ----------
    edge_phase : float
        Phase at a distance of N/2 from the centre, in radians.

    Returns
    -------
    (N, N) complex128
        The probe, in arbitrary units.
    """
    radius2 = squared_radius(patch_size)
    reach = (3 / 8 * patch_size if diameter is None else diameter) / 2
    amplitude = 0.5 - 0.5 * np.tanh(np.sqrt(radius2) - reach)
    return np.asarray(amplitude * np.exp(1j * edge_phase * radius2 / (patch_size / 2) ** 2))
