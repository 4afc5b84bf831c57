"""Positions that can't be right: outliers, and placeholders of positions never measured."""

import numpy as np
from numpy.typing import NDArray

from ptychostream.datasets.sources.rows import with_numbers
from ptychostream.errors import DataContractError
from ptychostream.geometry import check_extent

#: A position this many times further from the median than most is an outlier.
_FAR = 8.0

#: Patterns that may share one position, as exposures that were repeated.
_REPEATED = 3


def check_places(
    name: str,
    positions: NDArray[np.float64],
    as_read: NDArray[np.float64],
    patch_size: int,
    *,
    numbers: NDArray[np.int64],
    leave_out: str,
) -> list[str]:
    """Return a warning about positions that were never measured.

    Parameters
    ----------
    positions : (M, 2) float64
        Positions (x, y) in pixels.
    as_read : (M, 2) float64
        The same as the file holds them.
    numbers : (M,) int64
        Their numbers in the file.

    Raises
    ------
    DataContractError
        If some lie so far from the others that no scan has them; all are named.
    """
    try:
        check_extent(positions, patch_size, name=name)
    except DataContractError as error:
        away = np.linalg.norm(positions - np.median(positions, axis=0), axis=1)
        far = np.flatnonzero(away > _FAR * max(np.median(away), 1e-12))
        if not len(far) or len(far) > 0.3 * len(positions):
            raise
        raise DataContractError(
            f"{error}. {len(far)} of {len(positions)} positions lie far from all others; if they "
            f"were not measured, leave them out with their patterns: "
            f"{with_numbers(leave_out, numbers[far])}"
        ) from error
    zero = np.flatnonzero((as_read == 0).all(axis=1))
    if len(zero) < _REPEATED or len(zero) == len(as_read):
        return []
    return [
        f"{len(zero)} of {len(as_read)} positions are exactly (0, 0), numbers of patterns "
        f"{numbers[zero[0]]} to {numbers[zero[-1]]}, as where a scan was stopped; if they were not "
        f"measured, leave them out: {with_numbers(leave_out, numbers[zero])}"
    ]
