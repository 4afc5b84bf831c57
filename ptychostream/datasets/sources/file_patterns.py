"""Patterns that lie uncompressed in a file, read in place."""

from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ptychostream.errors import DataContractError
from ptychostream.scan import PatternSource


class FilePatterns(PatternSource):
    """Patterns that lie uncompressed in a file, read in place.

    They are read and not mapped: what a process maps counts as its memory, and a file that
    becomes shorter while it is mapped ends the process.

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
        self._path, self._shape, self._dtype, self._offset = path, shape, dtype, offset

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

        Raises
        ------
        DataContractError
            If the file ends before a pattern does.
        """
        rows = np.asarray(rows)
        if len(rows) and not 0 <= rows.min() <= rows.max() < self._shape[0]:
            raise IndexError(f"rows {rows.min()} … {rows.max()} of {self._shape[0]} patterns")
        out = np.empty((len(rows), *self._shape[1:]), self._dtype)
        size = out[:1].nbytes
        content = out.reshape(-1).view(np.uint8)
        # Consecutive patterns at once.
        borders = [0, *(np.flatnonzero(np.diff(rows) != 1) + 1).tolist(), len(rows)]
        with self._path.open("rb", buffering=0) as stream:
            for first, last in pairwise(borders):
                if first == last:
                    continue
                stream.seek(self._offset + int(rows[first]) * size)
                part = memoryview(content.data)[first * size : last * size]
                while part:
                    number = stream.readinto(part)
                    if not number:
                        raise DataContractError(
                            f"'{self._path}' ends in the middle of pattern "
                            f"{rows[last - 1] - (len(part) - 1) // size} of {self._shape[0]}; "
                            "copy it again"
                        )
                    part = part[number:]
        return out
