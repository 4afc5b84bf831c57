"""A store's patterns as a source, so that a store can be exported or built from."""

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    from ptychostream.datasets.store.group_store import GroupStore


class StoredPatterns:
    """Patterns of one experiment of a store, in acquisition order.

    Parameters
    ----------
    store : GroupStore
        The store.
    rows : (M,) int64
        Rows of the experiment in the store.
    """

    random_access = True

    def __init__(self, store: "GroupStore", rows: NDArray[np.int64]) -> None:
        self._store, self._rows = store, rows

    @property
    def shape(self) -> tuple[int, int, int]:
        """M, N, N."""
        return len(self._rows), self._store.N, self._store.N

    @property
    def dtype(self) -> np.dtype[Any]:
        """Data type as measured."""
        return self._store.dtype

    def read(self, rows: NDArray[np.int64]) -> NDArray[Any]:
        """Return the patterns of these rows, in this order.

        Parameters
        ----------
        rows : (B,) int64
            Which patterns of the experiment.

        Returns
        -------
        (B, N, N)
            The patterns.
        """
        return self._store.diffraction(self._rows[rows])

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
        for start in range(0, len(self._rows), length):
            yield self.read(np.arange(start, min(start + length, len(self._rows))))
