"""Patterns of several sources, one after another."""

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from typing_extensions import override

from ptychostream.errors import DataContractError
from ptychostream.scan import PatternSource


class JoinedPatterns(PatternSource):
    """Patterns of several sources of one shape, one after another."""

    def __init__(self, sources: Sequence[PatternSource]) -> None:
        self._sources = tuple(sources)
        shapes = {source.shape[1:] for source in self._sources}
        if len(shapes) != 1:
            raise DataContractError(f"patterns that belong together have the sizes {shapes}")
        self._starts = np.cumsum([0, *(source.shape[0] for source in self._sources)])
        self.random_access = all(source.random_access for source in self._sources)
        self.seekable = all(getattr(source, "seekable", False) for source in self._sources)

    @property
    @override
    def shape(self) -> tuple[int, int, int]:
        return int(self._starts[-1]), *self._sources[0].shape[1:]

    @property
    @override
    def dtype(self) -> np.dtype[Any]:
        return np.result_type(*(source.dtype for source in self._sources))

    @override
    def read(self, rows: NDArray[np.int64]) -> NDArray[Any]:
        rows = np.asarray(rows)
        out = np.empty((len(rows), *self.shape[1:]), self.dtype)
        which = np.searchsorted(self._starts, rows, side="right") - 1
        for number in np.unique(which):
            here = which == number
            out[here] = self._sources[number].read(rows[here] - self._starts[number])
        return out

    @override
    def blocks(self, length: int) -> Iterator[NDArray[Any]]:
        for source in self._sources:
            yield from source.blocks(length)
