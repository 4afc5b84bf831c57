"""Weak bars and ellipses over smooth noise, independent in amplitude and phase."""

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import gaussian_filter


def bars_and_ellipses(
    shape: tuple[int, int],
    rng: np.random.Generator,
    *,
    shapes_per_pixel: float = 0.004,
    amplitude_spread: float = 0.06,
    phase_spread: float = 0.15,
) -> NDArray[np.complex64]:
    """Draw bars and ellipses of 3 to 18 px over smooth noise.

    Amplitude and phase have separate shapes, so that neither can be guessed from the other.
    """
    number = max(1, round(shapes_per_pixel * shape[0] * shape[1]))
    amplitude = 0.8 + amplitude_spread * _standardised(_structure(shape, number, rng))
    phase = phase_spread * _standardised(_structure(shape, number, rng))
    return (np.clip(amplitude, 0.2, 1) * np.exp(1j * phase)).astype(np.complex64)


def _structure(
    shape: tuple[int, int], number: int, rng: np.random.Generator
) -> NDArray[np.float64]:
    image = 1.5 * _standardised(gaussian_filter(rng.standard_normal(shape), 10))
    image += 0.4 * _standardised(gaussian_filter(rng.standard_normal(shape), 2))
    for _ in range(number):
        centre = rng.uniform(0, shape)
        half = rng.uniform(1.5, 9, 2)
        angle = rng.uniform(0, np.pi)
        reach = int(np.ceil(np.hypot(*half))) + 1
        top, left = np.maximum(np.floor(centre).astype(int) - reach, 0)
        rows, columns = np.ogrid[
            top : min(top + 2 * reach + 1, shape[0]), left : min(left + 2 * reach + 1, shape[1])
        ]
        down, right = rows - centre[0], columns - centre[1]
        along = (np.cos(angle) * down + np.sin(angle) * right) / half[0]
        across = (np.cos(angle) * right - np.sin(angle) * down) / half[1]
        if rng.random() < 0.5:
            inside = np.maximum(np.abs(along), np.abs(across)) <= 1
        else:
            inside = along**2 + across**2 <= 1
        image[rows, columns] += inside * rng.normal(0, 1.5)
    return gaussian_filter(image, 0.5)


def _standardised(image: NDArray[np.float64]) -> NDArray[np.float64]:
    return (image - image.mean()) / image.std()
