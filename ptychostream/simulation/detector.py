"""What a detector does to the photons that reach it."""

from dataclasses import dataclass, fields
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import gaussian_filter

from ptychostream.errors import ConfigurationError


@dataclass(frozen=True, kw_only=True)
class Detector:
    """A pixel detector; the default counts every photon where it falls.

    Charge spreads first, then the background is added, then the beamstop and dead pixels take
    away what they hide, then photons are counted, and last the counts are cut at the ceiling.

    Attributes
    ----------
    point_spread
        Standard deviation of a Gaussian that spreads each photon, in pixels; no photon is lost.
    background
        Expected counts that every pixel adds, in photons.
    beamstop
        Radius of an opaque disk about the zero frequency, in pixels.
    dead_fraction
        Fraction of pixels that count nothing.
    hot_fraction
        Fraction of pixels that add `hot_counts`.
    hot_counts
        Expected counts that a hot pixel adds, in photons.
    saturation
        Largest count a pixel shows; None is the largest that `bit_depth` holds.
    bit_depth
        Bits of the counter, 1 to 32; decides the data type of counted photons.
    """

    point_spread: float = 0.0
    background: float = 0.0
    beamstop: float = 0.0
    dead_fraction: float = 0.0
    hot_fraction: float = 0.0
    hot_counts: float = 1e4
    saturation: int | None = None
    bit_depth: int = 32

    def __post_init__(self) -> None:
        """Check the numbers."""
        for item in fields(self):
            value = getattr(self, item.name)
            if value is not None and not (np.isfinite(value) and value >= 0):
                raise ConfigurationError(f"{item.name}={value} must be zero or more")
        if self.dead_fraction + self.hot_fraction > 1:
            raise ConfigurationError(
                f"dead_fraction={self.dead_fraction} and hot_fraction={self.hot_fraction} are "
                "together more than 1"
            )
        if not 1 <= self.bit_depth <= 32:
            raise ConfigurationError(f"bit_depth={self.bit_depth} must be from 1 to 32")
        if self.saturation is not None and not 1 <= self.saturation < 2**self.bit_depth:
            raise ConfigurationError(
                f"saturation={self.saturation} must be from 1 to {2**self.bit_depth - 1}, the "
                f"most that bit_depth={self.bit_depth} holds"
            )

    def check_dose(self, nphotons: float) -> None:
        """Refuse a dose of which a pixel might see more than the widest counter can hold.

        Parameters
        ----------
        nphotons : float
            Photons per pattern.

        Raises
        ------
        ConfigurationError
            If one pixel could see more photons than 32 bits hold, and no saturation is given;
            or more than the random generator can draw.
        """
        widest = self.bit_depth == 32 and self.saturation is None
        most = 2**32 - 1 if widest else 10**18
        if nphotons > most:
            advice = ", or give the detector a saturation" if widest else ""
            raise ConfigurationError(
                f"nphotons={nphotons:g} per pattern is more than {most:g}, the most that is "
                f"counted; ask for fewer{advice}"
            )

    @property
    def ceiling(self) -> int:
        """Largest count a pixel shows."""
        return 2**self.bit_depth - 1 if self.saturation is None else self.saturation

    @property
    def dtype(self) -> np.dtype[np.unsignedinteger]:
        """Smallest unsigned type that holds a count."""
        return np.dtype(
            np.uint8 if self.bit_depth <= 8 else np.uint16 if self.bit_depth <= 16 else np.uint32
        )


class DetectorPixels:
    """A detector of a given size, with its faults in place.

    Parameters
    ----------
    rng : numpy.random.Generator
        Decides which pixels are dead or hot.

    Attributes
    ----------
    blind : (N, N) bool
        Pixels that see nothing: dead, or behind the beamstop.
    hot : (N, N) bool
        Pixels that count too much.
    """

    def __init__(self, detector: Detector, edge: int, rng: np.random.Generator) -> None:
        self.detector = detector
        along = np.arange(edge) - edge // 2
        distance2 = along[:, None] ** 2 + along**2
        order = rng.permutation(edge * edge).reshape(edge, edge)
        dead = order < round(detector.dead_fraction * edge * edge)
        stopped = (distance2 <= detector.beamstop**2) & (detector.beamstop > 0)
        self.blind: NDArray[np.bool_] = dead | stopped
        self.hot: NDArray[np.bool_] = order >= edge * edge - round(
            detector.hot_fraction * edge * edge
        )

    @property
    def bad_pixels(self) -> NDArray[np.bool_] | None:
        """Pixels that can't be trusted; None where there are none."""
        bad = self.blind | self.hot
        return bad if bad.any() else None

    def expected_counts(self, intensity: NDArray[np.float32]) -> NDArray[np.float32]:
        """Return the mean counts (B, N, N) of an intensity, before noise and ceiling.

        Parameters
        ----------
        intensity : (B, N, N) float32
            Photons that reach each pixel.

        Returns
        -------
        (B, N, N) float32
            Mean counts; the input itself for a perfect detector.
        """
        spread = self.detector.point_spread
        if spread > 0:
            # With mirrored edges no photon is lost.
            intensity = gaussian_filter(intensity, (0, spread, spread), mode="reflect")
        if self.detector.background > 0:
            intensity = intensity + self.detector.background
        if self.hot.any():
            intensity = intensity + self.hot.astype(np.float32) * self.detector.hot_counts
        if self.blind.any():
            intensity = intensity * ~self.blind
        return intensity

    def show(self, counts: NDArray[Any], out: NDArray[Any]) -> None:
        """Cut counts at the ceiling, into an array of the counter's data type.

        Parameters
        ----------
        counts : (..., N, N)
            Counts, or their expectation.
        out : (..., N, N)
            Where to write what the counter shows.
        """
        np.minimum(counts, self.detector.ceiling, out=out, casting="unsafe")
