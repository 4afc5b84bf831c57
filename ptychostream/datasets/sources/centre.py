"""Where the zero frequency lies on a detector."""

import numpy as np
from numpy.typing import NDArray

from ptychostream.errors import ConfigurationError

#: Part of the brightest value from which on a pixel counts for the centre.
_BRIGHT = 0.05

#: A beam that lies further off is doubtful: in pixels, and as a part of the edge.
_OFF_PX, _OFF = 2.5, 0.03


def find_centre(mean: NDArray[np.float64]) -> tuple[float, float]:
    """Find the centre (x, y) of a mean pattern: the centre of mass of its bright part.

    `mean` (H, W): mean counts; zero where a pixel is bad.
    """
    lit = np.maximum(mean, 0)
    if not lit.any():
        return mean.shape[1] / 2, mean.shape[0] / 2
    top = np.percentile(lit[lit > 0], 99)
    # Of counts, the root keeps a few very bright pixels from deciding alone.
    weight = np.sqrt(np.clip(lit, 0, top)) - np.sqrt(_BRIGHT * top)
    weight = np.maximum(weight, 0)
    y, x = np.indices(mean.shape)
    total = weight.sum()
    return float((weight * x).sum() / total), float((weight * y).sum() / total)


def expected_centre(
    shape: tuple[int, int], probe: NDArray[np.complex64] | None
) -> tuple[float, float]:
    """Return where the beam should lie: the middle, moved as the probe's own diffraction is."""
    height, width = shape
    middle = float(width // 2), float(height // 2)
    if probe is None or not np.isfinite(probe).all() or not probe.any():
        return middle
    far = np.abs(np.fft.fftshift(np.fft.fft2(probe), axes=(-2, -1))) ** 2
    x, y = find_centre(far.sum(axis=0))
    return middle[0] + x - probe.shape[-1] // 2, middle[1] + y - probe.shape[-2] // 2


def is_off(found: tuple[float, float], expected: tuple[float, float], edge: int) -> bool:
    """Return whether a beam lies so far from where it should that it shows."""
    away = float(np.hypot(found[0] - expected[0], found[1] - expected[1]))
    return away > max(_OFF_PX, _OFF * edge)


def centre_option(text: str, mean: NDArray[np.float64]) -> tuple[float, float]:
    """Read the option `centre`: `X,Y`, or `auto`."""
    if text == "auto":
        return find_centre(mean)
    try:
        x, y = (float(part) for part in text.strip("()[]").split(","))
    except ValueError as error:
        raise ConfigurationError(
            f"centre={text!r} must be 'auto' or two numbers X,Y in pixels, such as 257,255"
        ) from error
    height, width = mean.shape
    if not (0 <= x < width and 0 <= y < height):
        raise ConfigurationError(
            f"centre={text!r} lies outside of the detector of {width} x {height} px (X x Y)"
        )
    return x, y


def is_corner_centred(mean: NDArray[np.float64]) -> bool:
    """Return whether a mean pattern is far narrower after its quadrants are swapped.

    That holds for rings, too, as zone plates make them, which have no brightest corner.
    """
    y, x = (np.arange(length) - length // 2 for length in mean.shape)
    squared = (y[:, None] / mean.shape[0]) ** 2 + (x / mean.shape[1]) ** 2
    # An even background does not tell where the centre is.
    light = np.maximum(mean - np.median(mean), 0)
    swapped = np.fft.fftshift(light)
    if not (swapped * squared).sum() < 0.6 * (light * squared).sum():
        return False
    # A beam in one corner of a detector is only off its centre.
    rows, columns = mean.shape[0] // 2, mean.shape[1] // 2
    quarters = [
        part.sum() for half in (light[:rows], light[rows:]) for part in np.split(half, [columns], 1)
    ]
    return bool(min(quarters) > 0.01 * sum(quarters))
