"""Fourier ring correlation: up to which detail two images agree."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True, eq=False, kw_only=True)
class FourierRingCorrelation:
    """Correlation of two images ring by ring in Fourier space.

    Attributes
    ----------
    frequency : (R,) float64
        Spatial frequency of each ring, in cycles per pixel, up to 0.5.
    correlation : (R,) float64
        Real part of the normalised correlation.
    half_bit : (R,) float64
        The half-bit threshold.
    """

    frequency: NDArray[np.float64]
    correlation: NDArray[np.float64]
    half_bit: NDArray[np.float64]

    def crossing(self, threshold: NDArray[np.float64] | float) -> float:
        """Find the frequency at which the correlation first falls below a threshold.

        Parameters
        ----------
        threshold : (R,) float64 or float
            1/7, say, or `half_bit`.

        Returns
        -------
        float
            In cycles per pixel; 0.5 where it never does.
        """
        below = np.flatnonzero(self.correlation < threshold)
        return float(self.frequency[below[0]]) if len(below) else 0.5


def fourier_ring_correlation(
    first: NDArray[np.complex128], second: NDArray[np.complex128]
) -> FourierRingCorrelation:
    """Correlate two images ring by ring; a Hann window is applied to both.

    Parameters
    ----------
    first, second : (S, S) complex128
        Aligned images.

    Returns
    -------
    FourierRingCorrelation
        From the second ring to the Nyquist frequency.

    References
    ----------
    van Heel & Schatz, J. Struct. Biol. 151 (2005) 250.
    """
    edge = first.shape[0]
    window = np.hanning(edge)[:, None] * np.hanning(edge)
    spectra = [np.fft.fft2((image - image.mean()) * window) for image in (first, second)]
    frequency = np.fft.fftfreq(edge)
    ring = np.rint(np.hypot(frequency[:, None], frequency) * edge).astype(int)
    number = edge // 2 + 1

    def ring_sum(values: NDArray[np.float64]) -> NDArray[np.float64]:
        return np.bincount(ring.ravel(), values.ravel(), minlength=number)[:number].astype(
            np.float64
        )

    cross = ring_sum((spectra[0] * spectra[1].conj()).real)
    powers = [ring_sum(np.abs(spectrum) ** 2) for spectrum in spectra]
    correlation = cross / np.maximum(np.sqrt(powers[0] * powers[1]), np.finfo(float).tiny)
    # A window correlates neighbouring pixels: about half of a ring's are independent.
    root = np.sqrt(np.maximum(ring_sum(np.ones_like(spectra[0].real)) / 2, 1))
    half_bit = (0.2071 + 1.9102 / root) / (1.2071 + 0.9102 / root)
    keep = slice(2, number)
    return FourierRingCorrelation(
        frequency=np.arange(number)[keep] / edge,
        correlation=correlation[keep],
        half_bit=half_bit[keep],
    )
