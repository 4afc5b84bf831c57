"""How wide a probe is."""

import numpy as np
from numpy.typing import NDArray


def effective_diameter(probe: NDArray[np.complex128]) -> float:
    """Diameter of the evenly lit disk that is as concentrated as the probe.

    Parameters
    ----------
    probe : (P, N, N) complex128
        The probe.

    Returns
    -------
    float
        In pixels: the disk's area is (Σ I)² / Σ I², with the intensity I summed over modes.

    Examples
    --------
    >>> along = np.arange(64) - 32
    >>> round(effective_diameter((along[:, None] ** 2 + along**2 < 10**2)[None] + 0j))
    20
    """
    intensity = np.sum(np.abs(probe) ** 2, axis=0)
    area = intensity.sum() ** 2 / np.sum(intensity**2)
    return float(2 * np.sqrt(area / np.pi))
