"""A store's patterns as a source, so that a store can be exported or built from."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from typing_extensions import override

from ptychostream.scan import PatternSource


@dataclass(frozen=True)
class StoredPatterns(PatternSource):
    """Patterns of one experiment, in acquisition order; `read_rows` reads rows of the store."""

    read_rows: Callable[[NDArray[np.int64]], NDArray[Any]]
    rows: NDArray[np.int64]
    N: int
    kind: np.dtype[Any]

    @property
    @override
    def shape(self) -> tuple[int, int, int]:
        return len(self.rows), self.N, self.N

    @property
    @override
    def dtype(self) -> np.dtype[Any]:
        return self.kind

    @override
    def read(self, rows: NDArray[np.int64]) -> NDArray[Any]:
        return self.read_rows(self.rows[rows])
