"""A store's patterns as a source, so that a store can be exported or built from."""

from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from ptychostream.scan import PatternSource

if TYPE_CHECKING:
    from ptychostream.datasets.store.group_store import GroupStore


class StoredPatterns(PatternSource):
    """Patterns of one experiment of a store, in acquisition order.

    Parameters
    ----------
    store : GroupStore
        The store.
    rows : (M,) int64
        Rows of the experiment in the store.
    """

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
