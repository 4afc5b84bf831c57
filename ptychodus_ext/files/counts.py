"""Counts, which is what ptychodus takes patterns for, from whatever a file declares."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from ptychostream.scan import MeasurementDomain


def as_counts(
    patterns: NDArray[Any], domain: MeasurementDomain, *, whole: bool = False
) -> NDArray[Any]:
    """Return patterns as counts: amplitudes are squared, counts stay as they are.

    Parameters
    ----------
    patterns : (B, N, N)
        As stored.
    whole : bool
        Whether the squares of amplitudes are known to be whole numbers, but for rounding.

    Returns
    -------
    (B, N, N)
        Counts; float32 where they are squares.

    Examples
    --------
    >>> as_counts(np.float32([[[1.4142135, 3.0]]]), "amplitude", whole=True)
    array([[[2., 9.]]], dtype=float32)
    """
    if domain == "counts":
        return patterns
    squares = np.square(patterns, dtype=np.float64)
    return (np.rint(squares) if whole else squares).astype(np.float32)


def counts_dtype(dtype: np.dtype[Any], domain: MeasurementDomain) -> np.dtype[Any]:
    """Say in which data type `as_counts` returns patterns."""
    return dtype if domain == "counts" else np.dtype(np.float32)
