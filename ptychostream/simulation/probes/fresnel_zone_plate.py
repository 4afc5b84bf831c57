"""The beam of a Fresnel zone plate with a central stop, out of focus."""

import numpy as np
from numpy.typing import NDArray

from ptychostream.simulation.probes.frame import squared_radius


def fresnel_zone_plate(
    patch_size: int,
    *,
    aperture: float = 0.5,
    central_stop: float = 0.4,
    defocus: float = 1.0,
) -> NDArray[np.complex128]:
    """Propagate a zone plate's annular pupil to a plane behind its focus.

    Parameters
    ----------
    aperture : float
        Radius of the pupil as a fraction of the largest spatial frequency on the grid.
    defocus : float
        Phase at the rim of the pupil, in units of the value that spreads the beam over
        one fifth of the edge.

    Returns
    -------
    (N, N) complex128
        The probe, in arbitrary units.
    """
    rim = aperture * patch_size / 2
    radius = np.sqrt(squared_radius(patch_size))
    # Edges one and a half pixels wide keep the beam inside the patch.
    pupil = 0.5 - 0.5 * np.tanh((radius - rim) / 1.5)
    pupil *= 0.5 + 0.5 * np.tanh((radius - central_stop * rim) / 1.5)
    # A quadratic phase a·k² moves a ray of frequency k by a·k·N/π pixels.
    reach = defocus * patch_size / 10
    curvature = np.pi * reach / (patch_size * rim)
    pupil = pupil * np.exp(1j * curvature * radius**2)
    return np.fft.fftshift(np.fft.ifft2(np.fft.ifftshift(pupil)))
