"""The pixel frame that every probe is drawn in."""

import numpy as np
from numpy.typing import NDArray


def squared_radius(patch_size: int) -> NDArray[np.float64]:
    """Squared distance of each pixel from the patch's centre (N/2, N/2).

    Returns
    -------
    (N, N) float64
        In px².
    """
    along = np.arange(patch_size) - patch_size / 2
    return np.asarray(along[:, None] ** 2 + along[None, :] ** 2)
