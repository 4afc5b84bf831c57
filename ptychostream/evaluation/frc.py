"""Fourier ring correlation: the spatial frequency up to which two images agree."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

#: Rows of the spectrum that are sorted into rings at once.
_ROWS = 256


@dataclass(frozen=True, eq=False, kw_only=True)
class FourierRingCorrelation:
    """Correlation of two images ring by ring in Fourier space.

    `frequency` (R,): spatial frequency of each ring, in cycles per pixel, up to 0.5.
    `correlation` (R,): real part of the normalised correlation.
    `half_bit` (R,): the half-bit threshold.
    """

    frequency: NDArray[np.float64]
    correlation: NDArray[np.float64]
    half_bit: NDArray[np.float64]

    def crossing(self, threshold: NDArray[np.float64] | float) -> float:
        """Find the frequency at which the correlation first falls below a threshold.

        `threshold` (R,): 1/7, say, or `half_bit`.
        """
        below = np.flatnonzero(self.correlation < threshold)
        return float(self.frequency[below[0]]) if len(below) else 0.5


def fourier_ring_correlation(
    first: NDArray[np.complexfloating], second: NDArray[np.complexfloating]
) -> FourierRingCorrelation:
    """Correlate two images ring by ring; a Hann window is applied to both.

    `first`, `second` (S, S): aligned images; computed in their own precision.

    References
    ----------
    van Heel & Schatz, J. Struct. Biol. 151 (2005) 250.
    """
    # Imported where it is used: the solver does without, and starts the sooner.
    from scipy.fft import fft2

    edge = first.shape[0]
    window = np.hanning(edge).astype(first.real.dtype)
    spectra = []
    for image in (first, second):
        windowed = image - image.mean()
        windowed *= window[:, None]
        windowed *= window
        spectra.append(fft2(windowed, overwrite_x=True))
    frequency = np.fft.fftfreq(edge)
    number = edge // 2 + 1
    cross, *powers, pixels = sums = np.zeros((4, number))
    # Some rows at a time: tables of all pixels would be larger than the images.
    for start in range(0, edge, _ROWS):
        rows = slice(start, start + _ROWS)
        ring = np.rint(np.hypot(frequency[rows, None], frequency) * edge).astype(int).ravel()
        one, two = (spectrum[rows].ravel() for spectrum in spectra)
        terms = (one * two.conj()).real, np.abs(one) ** 2, np.abs(two) ** 2, np.ones(len(ring))
        for total, term in zip(sums, terms, strict=True):
            total += np.bincount(ring, term, minlength=number)[:number]
    correlation = cross / np.maximum(np.sqrt(powers[0] * powers[1]), np.finfo(float).tiny)
    # A window correlates neighbouring pixels: about half of a ring's are independent.
    root = np.sqrt(np.maximum(pixels / 2, 1))
    half_bit = (0.2071 + 1.9102 / root) / (1.2071 + 0.9102 / root)
    keep = slice(2, number)
    return FourierRingCorrelation(
        frequency=np.arange(number)[keep] / edge,
        correlation=correlation[keep],
        half_bit=half_bit[keep],
    )
