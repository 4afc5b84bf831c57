"""Where patterns are read from: the base class of all sources, and the sources made of others."""

from abc import ABC, abstractmethod
from collections.abc import Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray
from typing_extensions import override


class PatternSource(ABC):
    """Patterns that are read in blocks, from a file, an array or a computation.

    Attributes
    ----------
    random_access : bool
        Whether any rows can be read without reading those before them.
    """

    random_access: bool = True

    @property
    @abstractmethod
    def shape(self) -> tuple[int, int, int]:
        """M, N, N."""

    @property
    @abstractmethod
    def dtype(self) -> np.dtype[Any]:
        """Data type as measured."""

    @abstractmethod
    def read(self, rows: NDArray[np.int64]) -> NDArray[Any]:
        """Read some patterns.

        Parameters
        ----------
        rows : (B,) int64
            Which patterns.

        Returns
        -------
        (B, N, N)
            The patterns, in this order.
        """

    def blocks(self, length: int) -> Iterator[NDArray[Any]]:
        """Iterate over all patterns in acquisition order.

        Parameters
        ----------
        length : int
            Patterns per block.

        Yields
        ------
        (B, N, N)
            A block; the last may be shorter.
        """
        for start in range(0, self.shape[0], length):
            yield self.read(np.arange(start, min(start + length, self.shape[0])))

    def check(self) -> None:
        """Compare the patterns with a checksum that reading them does not compare, if any.

        Patterns that are made from others compare those.

        Raises
        ------
        DataContractError
            If they differ.
        """
        for inner in vars(self).values():
            for source in inner if isinstance(inner, list | tuple) else (inner,):
                if isinstance(source, PatternSource):
                    source.check()


class ArrayPatterns(PatternSource):
    """Patterns that are an array, in memory or memory-mapped.

    Parameters
    ----------
    array : (M, N, N)
        The patterns.
    """

    def __init__(self, array: NDArray[Any]) -> None:
        self._array = array

    @property
    @override
    def shape(self) -> tuple[int, int, int]:
        m, height, width = self._array.shape
        return m, height, width

    @property
    @override
    def dtype(self) -> np.dtype[Any]:
        return self._array.dtype

    @override
    def read(self, rows: NDArray[np.int64]) -> NDArray[Any]:
        return np.asarray(self._array[rows])


class OpenedPatterns(PatternSource):
    """Patterns whose shape and data type are known when they are opened."""

    _shape: tuple[int, int, int]
    _dtype: np.dtype[Any]

    @property
    @override
    def shape(self) -> tuple[int, int, int]:
        return self._shape

    @property
    @override
    def dtype(self) -> np.dtype[Any]:
        return self._dtype


class DerivedPatterns(PatternSource):
    """Patterns of another source, by default of the same shape and data type."""

    def __init__(self, source: PatternSource) -> None:
        self._source = source
        self.random_access = source.random_access

    @property
    @override
    def shape(self) -> tuple[int, int, int]:
        return self._source.shape

    @property
    @override
    def dtype(self) -> np.dtype[Any]:
        return self._source.dtype


class ChangedPatterns(DerivedPatterns):
    """Patterns of another source that are changed when they are read, each by itself."""

    @abstractmethod
    def change(self, block: NDArray[Any]) -> NDArray[Any]:
        """Return the changed patterns (B, N, N) of a block."""

    @override
    def read(self, rows: NDArray[np.int64]) -> NDArray[Any]:
        return self.change(self._source.read(rows))

    @override
    def blocks(self, length: int) -> Iterator[NDArray[Any]]:
        for block in self._source.blocks(length):
            yield self.change(block)


class SubsetPatterns(DerivedPatterns):
    """Some patterns of another source.

    Parameters
    ----------
    source : PatternSource
        All patterns.
    rows : (M,) int64
        Rows of the source, in this order.
    """

    def __init__(self, source: PatternSource, rows: NDArray[np.int64]) -> None:
        super().__init__(source)
        self._rows = rows

    @property
    @override
    def shape(self) -> tuple[int, int, int]:
        return len(self._rows), *self._source.shape[1:]

    @override
    def read(self, rows: NDArray[np.int64]) -> NDArray[Any]:
        return self._source.read(self._rows[np.asarray(rows)])
