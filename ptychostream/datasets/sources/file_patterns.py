"""Patterns that lie uncompressed in a file, read in place."""

import os
import threading
import weakref
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from typing_extensions import override

from ptychostream.errors import DataContractError
from ptychostream.pattern_sources import OpenedPatterns


class FilePatterns(OpenedPatterns):
    """Patterns that lie uncompressed in a file, read in place.

    They are read and not mapped: mapped pages count as the process's memory, and a process ends if
    a file is truncated while it is mapped. The file stays open, so that a file that replaces it
    under its name is not read instead.

    Parameters
    ----------
    shape : (int, int, int)
        M, N, N.
    offset : int
        Byte at which the values begin.
    """

    def __init__(
        self, path: Path, shape: tuple[int, int, int], dtype: np.dtype[Any], offset: int = 0
    ) -> None:
        self._path, self._shape, self._dtype, self._offset = path, shape, dtype, offset
        self._file = os.open(path, os.O_RDONLY | getattr(os, "O_BINARY", 0))
        weakref.finalize(self, os.close, self._file)
        self._lock = threading.Lock()

    def __reduce__(self) -> Any:
        """Pickle as a path; unpickling checks that the file is unchanged."""
        at = (self._path.resolve(), self._shape, self._dtype, self._offset)
        return _opened_again, (at, _state_of(self._file))

    @override
    def read(self, rows: NDArray[np.int64]) -> NDArray[Any]:
        rows = np.asarray(rows)
        if len(rows) and not 0 <= rows.min() <= rows.max() < self._shape[0]:
            raise IndexError(f"rows {rows.min()} … {rows.max()} of {self._shape[0]} patterns")
        out = np.empty((len(rows), *self._shape[1:]), self._dtype)
        size = out[:1].nbytes
        content = out.reshape(-1).view(np.uint8)
        # Consecutive patterns at once.
        borders = [0, *(np.flatnonzero(np.diff(rows) != 1) + 1).tolist(), len(rows)]
        for first, last in pairwise(borders):
            part = memoryview(content.data)[first * size : last * size]
            at = self._offset + int(rows[first]) * size if part else 0
            while part:
                number = self._read_into(part, at)
                if not number:
                    raise DataContractError(
                        f"'{self._path}' ends in the middle of pattern "
                        f"{rows[last - 1] - (len(part) - 1) // size} of {self._shape[0]}; "
                        "copy it again"
                    )
                part, at = part[number:], at + number
        return out

    def _read_into(self, part: memoryview, at: int) -> int:
        try:
            if hasattr(os, "preadv"):
                return os.preadv(self._file, [part], at)
            with self._lock:
                os.lseek(self._file, at, os.SEEK_SET)
                data = os.read(self._file, len(part))
        except OSError as error:
            raise DataContractError(f"'{self._path}' can't be read: {error}") from error
        part[: len(data)] = data
        return len(data)


def _state_of(file: int) -> tuple[int, int]:
    """Return size and time of the last change, which tell other content apart."""
    state = os.fstat(file)
    return state.st_size, state.st_mtime_ns


def _opened_again(at: Any, state: tuple[int, int]) -> FilePatterns:
    patterns = FilePatterns(*at)
    if _state_of(patterns._file) != state:
        raise DataContractError(f"'{at[0]}' has changed since it was opened; start again")
    return patterns
