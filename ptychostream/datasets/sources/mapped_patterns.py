"""Patterns that lie uncompressed in a file, memory-mapped in place."""

import mmap
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ptychostream.scan import PatternSource


class MappedPatterns(PatternSource):
    """Patterns that lie uncompressed in a file, memory-mapped in place.

    The pages of each read are given back to the system, so that reading a large file does
    not count as this process's memory.

    Parameters
    ----------
    path : Path
        The file.
    shape : (int, int, int)
        M, N, N.
    dtype : numpy.dtype
        Of the values.
    offset : int
        Byte at which the values begin.
    """

    def __init__(
        self, path: Path, shape: tuple[int, int, int], dtype: np.dtype[Any], offset: int = 0
    ) -> None:
        self._shape, self._dtype = shape, dtype
        self._at = (path, shape, dtype, offset)
        self._array: np.memmap[Any, Any] = np.memmap(path, dtype, "r", offset, shape)

    def __reduce__(self) -> Any:
        """Travel to another process as an address, not as data."""
        return MappedPatterns, self._at

    @property
    def shape(self) -> tuple[int, int, int]:
        """M, N, N."""
        return self._shape

    @property
    def dtype(self) -> np.dtype[Any]:
        """Data type as measured."""
        return self._dtype

    def read(self, rows: NDArray[np.int64]) -> NDArray[Any]:
        """Return the patterns of these rows, in this order.

        Parameters
        ----------
        rows : (B,) int64
            Which patterns.

        Returns
        -------
        (B, N, N)
            A copy.
        """
        out = np.array(self._array[np.asarray(rows)])
        base = getattr(self._array, "_mmap", None)
        if base is not None and hasattr(base, "madvise"):
            base.madvise(mmap.MADV_DONTNEED)
        return out
