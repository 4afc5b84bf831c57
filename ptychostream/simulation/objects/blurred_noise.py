"""White noise seen through a Gaussian: structure of one length."""

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import gaussian_filter

from ptychostream.simulation.objects.texture import stretched
from ptychostream.simulation.options import positive


def blurred_noise(
    shape: tuple[int, int], rng: np.random.Generator, *, blur: float = 4.0
) -> NDArray[np.float64]:
    """Blur white noise.

    Parameters
    ----------
    shape : (int, int)
        Rows H and columns W.

    Returns
    -------
    (H, W) float64
        Thickness from 0 to 1.
    """
    positive(blur=blur)
    return stretched(gaussian_filter(rng.standard_normal(shape), blur))
