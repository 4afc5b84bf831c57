"""Let a probe fade to nothing at the edge of its patch."""

import numpy as np
from numpy.typing import NDArray

from ptychostream.errors import ConfigurationError


def apodise(probe: NDArray[np.complex128], fraction: float) -> NDArray[np.complex128]:
    """Multiply a probe by a window that falls to zero at the patch's edge.

    A probe that does not fade by itself would wrap around when it is shifted by a fraction of a
    pixel.

    Parameters
    ----------
    probe : (P, N, N) complex128
        The probe.
    fraction : float
        Part of the half edge over which a raised cosine falls: 0 leaves the probe, 1 is a Hann
        window.

    Returns
    -------
    (P, N, N) complex128
        The faded probe.

    Raises
    ------
    ConfigurationError
        If the fraction is not in [0, 1].
    """
    if not 0 <= fraction <= 1:
        raise ConfigurationError(f"apodisation={fraction} must be from 0 to 1")
    if fraction == 0:
        return probe
    edge = probe.shape[-1]
    distance = np.abs(np.arange(edge) - edge / 2) / (edge / 2)
    depth = np.clip((distance - (1 - fraction)) / fraction, 0, 1)
    window = 0.5 + 0.5 * np.cos(np.pi * depth)
    return np.asarray(probe * window[:, None] * window)
