"""Pinhole, Gaussian beam and zone plate: probes (N, N) in arbitrary units; the dose scales them."""

import numpy as np
from numpy.typing import NDArray


def squared_radius(patch_size: int) -> NDArray[np.float64]:
    """Squared distance (N, N) of each pixel from pixel (N/2, N/2), in px²."""
    along = np.arange(patch_size) - patch_size / 2
    return np.asarray(along[:, None] ** 2 + along[None, :] ** 2)


def disk(
    patch_size: int, *, diameter: float | None = None, edge_phase: float = 3.0
) -> NDArray[np.complex128]:
    """Draw a disk with an edge one pixel wide and a quadratic phase.

    `edge_phase`: phase at a distance of N/2 from the centre, in radians.
    """
    radius2 = squared_radius(patch_size)
    reach = (3 / 8 * patch_size if diameter is None else diameter) / 2
    amplitude = 0.5 - 0.5 * np.tanh(np.sqrt(radius2) - reach)
    return np.asarray(amplitude * np.exp(1j * edge_phase * radius2 / (patch_size / 2) ** 2))


def gaussian(
    patch_size: int, *, full_width: float | None = None, edge_phase: float = 6.0
) -> NDArray[np.complex128]:
    """Draw a Gaussian amplitude with a quadratic phase.

    `full_width`: full width at half maximum of the amplitude, in pixels; None is 18/64 of the edge.
    `edge_phase`: phase at a distance of N/2 from the centre, in radians.
    """
    width = 18 / 64 * patch_size if full_width is None else full_width
    radius2 = squared_radius(patch_size)
    amplitude = np.exp(-4 * np.log(2) * radius2 / width**2)
    return np.asarray(amplitude * np.exp(1j * edge_phase * radius2 / (patch_size / 2) ** 2))


def fresnel_zone_plate(
    patch_size: int,
    *,
    aperture: float = 0.5,
    central_stop: float = 0.4,
    defocus: float = 1.0,
) -> NDArray[np.complex128]:
    """Propagate a zone plate's annular pupil to a plane behind its focus.

    `aperture`: radius of the pupil as a fraction of the largest spatial frequency on the grid.
    `defocus`: phase at the rim of the pupil, in units of the value that spreads the beam over one
        fifth of the edge.
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
