"""Find the zero frequency, and take the square window of the detector around it."""

import logging
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ptychostream.datasets.sources.centre import (
    centre_option,
    expected_centre,
    find_centre,
    is_corner_centred,
    is_off,
)
from ptychostream.datasets.sources.examine import Examined
from ptychostream.datasets.sources.options import InputOptions
from ptychostream.datasets.sources.parts import ScanParts
from ptychostream.datasets.sources.window import Window, WindowedPatterns
from ptychostream.errors import DataContractError
from ptychostream.pattern_sources import PatternSource

logger = logging.getLogger(__name__)


@dataclass(frozen=True, eq=False)
class Windowed:
    """Square patterns whose zero frequency is at pixel (edge/2, edge/2).

    `mask` (edge, edge): bad pixels, with those beyond the detector.
    `edge`: edge of the window, in pixels of the detector.
    `centre`: zero frequency (x, y) on the detector; None where it was not looked for.
    `middle`: pixel (x, y) of the detector at the window's middle, where patterns are cut.
    `beyond` (edge, edge): pixels that lie beyond the detector.
    """

    patterns: PatternSource
    mask: NDArray[np.bool_] | None
    edge: int
    centre: tuple[float, float] | None
    warnings: tuple[str, ...]
    middle: tuple[int, int] | None = None
    beyond: NDArray[np.bool_] | None = None

    def padding(self, options: InputOptions) -> int:
        """Count the pixels beyond the detector that are left after binning and cropping."""
        if self.beyond is None:
            return 0
        kept = self.edge if options.crop is None else options.crop * options.bin
        inside = slice((self.edge - kept) // 2, (self.edge + kept) // 2)
        count = kept // options.bin
        blocks = self.beyond[inside, inside].reshape(count, options.bin, count, options.bin)
        return int(blocks.any(axis=(1, 3)).sum())


def take_window(
    parts: ScanParts,
    options: InputOptions,
    examined: Examined,
    probe: NDArray[np.complex64] | None,
) -> Windowed:
    """Take the square window that the options, or else the mean pattern, ask for."""
    patterns, mask = examined.patterns, examined.mask
    swap = parts.swap_quadrants if options.swap_quadrants is None else options.swap_quadrants
    mean = None if examined.survey is None else examined.survey.mean
    if mean is not None and swap:
        mean = np.fft.fftshift(mean)
    shape = (patterns.shape[1], patterns.shape[2])
    centre = _centre(options, mean, shape, probe)
    warnings = _warnings_on_centre(options, mean, shape, centre, swap)
    window = _window(parts, options, shape, centre)
    edge, beyond = window.edge, None
    if swap or not window.is_whole(shape):
        if shape[0] != shape[1] or shape[0] % 2:
            logger.info(
                "%s: of %d x %d px, %d x %d around (x %d, y %d) are used",
                parts.name,
                *shape,
                edge,
                edge,
                window.left + edge // 2,
                window.top + edge // 2,
            )
        patterns = WindowedPatterns(patterns, window, swap_quadrants=swap)
        beyond = window.cut(np.zeros(shape, bool), fill=True)
        if mask is not None or beyond.any():
            turned = np.zeros(shape, bool) if mask is None else mask
            turned = np.fft.fftshift(turned) if swap else turned
            mask = window.cut(turned, fill=True)
    middle = None
    if not window.is_whole(shape) or (options.crop or options.pad) is not None:
        middle = window.left + edge // 2, window.top + edge // 2
    return Windowed(patterns, mask, edge, centre, tuple(warnings), middle, beyond)


def _centre(
    options: InputOptions,
    mean: NDArray[np.float64] | None,
    shape: tuple[int, int],
    probe: NDArray[np.complex64] | None,
) -> tuple[float, float] | None:
    """Return the zero frequency (x, y), as given or as found in the mean pattern."""
    if options.centre is None and mean is None:
        return None
    reference = np.ones(shape) if mean is None else mean
    if options.centre is None:
        centre = find_centre(reference)
    else:
        centre = centre_option(options.centre, reference)
    if options.centre in (None, "auto"):
        # The probe's own diffraction may lie beside the zero frequency.
        beside = expected_centre(shape, probe)
        return centre[0] - beside[0] + shape[1] // 2, centre[1] - beside[1] + shape[0] // 2
    return centre


def _warnings_on_centre(
    options: InputOptions,
    mean: NDArray[np.float64] | None,
    shape: tuple[int, int],
    centre: tuple[float, float] | None,
    swap: bool,
) -> list[str]:
    if mean is None or centre is None:
        return []
    if options.swap_quadrants is None and not swap and is_corner_centred(mean):
        return [
            "the patterns are brightest in their corners; the zero frequency belongs at pixel "
            "(N/2, N/2). If it lies in the corner, build with --swap_quadrants true"
        ]
    expected = (float(shape[1] // 2), float(shape[0] // 2))
    is_square = shape[0] == shape[1] and not shape[0] % 2
    if options.centre is None and is_square and is_off(centre, expected, shape[0]):
        return [
            f"the beam lies at (x {centre[0]:.1f}, y {centre[1]:.1f}) on the detector and not "
            f"at its middle ({expected[0]:.1f}, {expected[1]:.1f}); if that is so, give "
            f"--centre {centre[0]:.0f},{centre[1]:.0f} (or --centre auto)"
        ]
    return []


def _window(
    parts: ScanParts,
    options: InputOptions,
    shape: tuple[int, int],
    centre: tuple[float, float] | None,
) -> Window:
    step = 2 * options.bin
    is_square = shape[0] == shape[1] and not shape[0] % 2
    if is_square and options.centre is None:
        return Window(0, 0, shape[0])
    edge = min(shape) // step * step
    if options.crop is not None:
        edge = max(edge, options.crop * options.bin)
    if edge < step:
        raise DataContractError(f"{parts.name}: {shape} px can't be binned by {options.bin}")
    middle = (float(shape[1] // 2), float(shape[0] // 2))
    if options.centre is None:
        # Without a word about the centre, a beam near the middle is taken to lie there.
        found = centre is not None and is_off(centre, middle, min(shape))
        return Window.around(centre if found and centre is not None else middle, edge)
    return Window.around(centre or middle, edge)
