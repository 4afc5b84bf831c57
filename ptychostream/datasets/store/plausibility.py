"""What a scan's patterns look like, where that hints at a mistake; said, never refused."""

import logging
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from ptychostream.scan import Scan

logger = logging.getLogger(__name__)

#: Patterns with less than this part of the median energy are called dark.
DARK = 1e-3

#: Patterns that are looked at to find where their centre lies.
_LOOKED_AT = 16

#: Numbers that a message names.
_SHOWN = 10


def is_corner_centred(scan: Scan) -> bool:
    """Say whether patterns look as if their zero frequency lay in the corner.

    Returns
    -------
    bool
        True if the corners hold over twice the energy of the centre, and the probe's own
        diffraction, moved to the corners, fits the patterns better than as it is.
    """
    block = next(scan.patterns.blocks(_LOOKED_AT)).astype(np.float64)
    # What is not finite is for the build to refuse.
    block[~np.isfinite(block)] = 0
    mean = (block if scan.measurement_domain == "counts" else block**2).mean(axis=0)
    if scan.bad_pixels is not None:
        mean[scan.bad_pixels] = 0
    swapped = np.fft.fftshift(mean)
    quarter = slice(scan.N // 4, scan.N - scan.N // 4)
    if swapped[quarter, quarter].sum() <= 2 * mean[quarter, quarter].sum():
        return False
    beam = (np.abs(np.fft.fftshift(np.fft.fft2(scan.probe), axes=(-2, -1))) ** 2).sum(axis=0)
    return bool((swapped * beam).sum() > (mean * beam).sum())


def warn_if_corner_centred(scan: Scan) -> None:
    """Log a warning about patterns whose zero frequency seems to lie in the corner."""
    if is_corner_centred(scan):
        logger.warning(
            "%s: the patterns are brightest in their corners; the zero frequency belongs at pixel "
            "(N/2, N/2). If it lies in the corner, build with --swap_quadrants true",
            scan.name,
        )


def warn_of_dark_patterns(scans: Sequence[Scan], energies: NDArray[np.float64]) -> None:
    """Log a warning about patterns that hold hardly any light.

    Parameters
    ----------
    energies : (M,) float64
        Sum of counts of each pattern, experiment after experiment.
    """
    ends = np.cumsum([scan.num_patterns for scan in scans])[:-1]
    for scan, own in zip(scans, np.split(energies, ends), strict=True):
        dark = np.flatnonzero(own <= DARK * np.median(own))
        if len(dark):
            more = f" and {len(dark) - _SHOWN} more" if len(dark) > _SHOWN else ""
            numbers = ",".join(map(str, dark[:_SHOWN]))
            logger.warning(
                "%s: %d of %d patterns hold hardly any light, numbers %s%s. Where a shutter was "
                "closed or a frame lost, this darkens the object; leave such patterns out: build "
                "with --leave_out '[%s]'",
                scan.name,
                len(dark),
                len(own),
                numbers,
                more,
                numbers,
            )
