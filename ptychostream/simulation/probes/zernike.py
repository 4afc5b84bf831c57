"""The focus of a round lens with Zernike aberrations."""

from collections.abc import Mapping
from math import factorial

import numpy as np
from numpy.typing import NDArray

from ptychostream.errors import ConfigurationError
from ptychostream.simulation.probes.shapes import squared_radius


def zernike(
    patch_size: int,
    *,
    aberrations: Mapping[int, float] | None = None,
    aperture: float = 0.3,
) -> NDArray[np.complex128]:
    """Focus a round pupil whose phase is a sum of Zernike polynomials.

    `aberrations`: radians of root-mean-square phase for each Noll index (4 is defocus, 5 and 6 are
        astigmatism, 7 and 8 coma, 11 spherical); None is 1.5 of defocus, 0.5 of astigmatism and 0.3
        of coma.
    `aperture`: radius of the pupil as a fraction of the largest spatial frequency on the grid.

    References
    ----------
    Noll, J. Opt. Soc. Am. 66 (1976) 207.
    """
    terms = {4: 1.5, 6: 0.5, 8: 0.3} if aberrations is None else dict(aberrations)
    rim = aperture * patch_size / 2
    radius = np.sqrt(squared_radius(patch_size))
    along = np.arange(patch_size) - patch_size / 2
    angle = np.arctan2(along[:, None], along[None, :])
    phase = np.zeros_like(radius)
    for index, weight in terms.items():
        phase += weight * zernike_polynomial(int(index), np.minimum(radius / rim, 1), angle)
    # An edge one and a half pixels wide keeps the beam inside the patch.
    pupil = (0.5 - 0.5 * np.tanh((radius - rim) / 1.5)) * np.exp(1j * phase)
    return np.fft.fftshift(np.fft.ifft2(np.fft.ifftshift(pupil)))


def zernike_polynomial(
    index: int, radius: NDArray[np.float64], angle: NDArray[np.float64]
) -> NDArray[np.float64]:
    """Evaluate a Zernike polynomial of mean square one over the unit disk.

    `radius` (...): distance from the centre, 1 at the rim.
    `angle` (...): from the x axis towards the y axis, in radians.
    Returns (...).
    """
    if index < 1:
        raise ConfigurationError(f"Noll index {index} must be at least 1")
    order, frequency = _noll(index)
    radial = np.zeros_like(radius)
    for k in range((order - frequency) // 2 + 1):
        weight = (-1) ** k * factorial(order - k)
        weight //= (
            factorial(k)
            * factorial((order + frequency) // 2 - k)
            * factorial((order - frequency) // 2 - k)
        )
        radial += weight * radius ** (order - 2 * k)
    if frequency == 0:
        return np.asarray(np.sqrt(order + 1) * radial)
    wave = np.cos if index % 2 == 0 else np.sin
    return np.asarray(np.sqrt(2 * (order + 1)) * radial * wave(frequency * angle))


def _noll(index: int) -> tuple[int, int]:
    """Radial order and azimuthal frequency of a Noll index."""
    order = 0
    while (order + 1) * (order + 2) // 2 < index:
        order += 1
    within = index - order * (order + 1) // 2 - 1
    frequency = 2 * ((within + 1) // 2) if order % 2 == 0 else 2 * (within // 2) + 1
    return order, frequency
