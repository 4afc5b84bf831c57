"""Which shape and kind each table of a store has, compared with each other before any is read."""

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ptychostream.datasets.large_tables import blocks_of, new_table
from ptychostream.datasets.store.pattern_array import PatternArray
from ptychostream.errors import DataContractError
from ptychostream.files import check_expansion

#: Letters of the shape, equal in all tables of a segment, and NumPy's letters of the kind.
_FORMS: Mapping[str, tuple[tuple[str | int, ...], str]] = {
    "storage_order": (("M",), "iu"),
    "positions": (("M", 2), "f"),
    "positions_start": (("M", 2), "f"),
    "experiment_id": (("M",), "iu"),
    "scan_index": (("M",), "iu"),
    "energy": (("M",), "f"),
    "probe": (("E", "P", "N", "N"), "c"),
    "bad_pixels": (("E", "N", "N"), "b"),
    "object_guess": (("H", "W"), "c"),
}

#: Most bytes of a chunk: the codec, blosc, knows no larger ones.
_CHUNK_LIMIT = 2**31 - 1


class TableForms:
    """What is known of the sizes in a segment.

    Parameters
    ----------
    label : str
        The store, for messages.
    array : PatternArray
        The patterns, which decide M and N.
    stored : int
        Bytes of all files of the segment: no table is much larger.
    """

    def __init__(self, label: str, array: PatternArray, stored: int) -> None:
        self._label, self._stored = label, stored
        _check_patterns(label, array)
        self.sizes = {"M": array.shape[0], "N": array.shape[1]}

    def check(self, name: str, shape: tuple[int, ...], dtype: np.dtype[Any]) -> None:
        """Refuse a table that is declared as no such table is; DataContractError."""
        letters, kinds = _FORMS.get(name.split("/")[0], (None, None))
        if letters is None:
            # Of a later version.
            self._check_size(name, shape, dtype)
            return
        # Those of one object are its own.
        known = {} if name.startswith("object_guess/") else self.sizes
        expected = tuple(
            known.get(each, each) if isinstance(each, str) else each for each in letters
        )
        fits = len(shape) == len(expected) and all(
            isinstance(wanted, str) or wanted == size
            for wanted, size in zip(expected, shape, strict=False)
        )
        if not fits or dtype.kind not in (kinds or ""):
            listed = ", ".join(map(str, expected))
            raise DataContractError(
                f"store '{self._label}' is damaged: table '{name}' is {dtype} {list(shape)}, "
                f"expected ({listed}) of kind {kinds}; copy or build the store again"
            )
        known |= {str(each): size for each, size in zip(letters, shape, strict=True)}
        self._check_size(name, shape, dtype)

    def _check_size(self, name: str, shape: tuple[int, ...], dtype: np.dtype[Any]) -> None:
        size = dtype.itemsize
        for length in shape:
            size *= length
        check_expansion(f"store '{self._label}': table '{name}'", size, self._stored)


def check_values(label: str, tables: Mapping[str, NDArray[Any]]) -> None:
    """Refuse tables whose values no scan has: positions and probes that are not finite."""
    for name in ("positions", "positions_start", "energy", "probe"):
        table = tables.get(name)
        if table is not None and not all(
            np.isfinite(table[rows]).all() for rows in blocks_of(len(table))
        ):
            raise DataContractError(
                f"store '{label}' is damaged: table '{name}' holds infinite values or NaN; "
                "copy or build the store again"
            )


def inverse_permutation(label: str, order: NDArray[np.integer]) -> NDArray[np.int64]:
    """Invert the order in which patterns are stored; DataContractError if it is none."""
    number = len(order)
    inverse = new_table((number,), np.int64)
    fits = not number or (order.min() >= 0 and order.max() < number)
    for rows in blocks_of(number if fits else 0):
        inverse[order[rows]] = np.arange(rows.start, rows.stop)
    # A number that comes twice takes the place of a row, which is then not found there.
    if not fits or not all(
        np.array_equal(inverse[order[rows]], np.arange(rows.start, rows.stop))
        for rows in blocks_of(number)
    ):
        raise DataContractError(
            f"store '{label}' is damaged: 'storage_order' is no permutation of its {number} "
            "patterns; copy or build the store again"
        )
    return inverse


def _check_patterns(label: str, array: PatternArray) -> None:
    """Check what is declared of the patterns against itself."""
    shape, chunks, shards = array.shape, array.chunks, array.shards
    whole = all(type(n) is int and n > 0 for part in (shape, chunks, shards) for n in part)
    fits = (
        whole
        and len(shape) == len(chunks) == len(shards) == 3
        and shape[1] == shape[2]
        and chunks[1:] == shards[1:] == shape[1:]
        and shards[0] % chunks[0] == 0
        and array.dtype.kind in "uif"
        and chunks[0] * shape[1] ** 2 * array.dtype.itemsize <= _CHUNK_LIMIT
    )
    if not fits:
        raise DataContractError(
            f"store '{label}' is damaged: its patterns are declared as {array.dtype} "
            f"{list(shape)} in chunks of {list(chunks)} and shards of {list(shards)}; copy or "
            "build the store again"
        )
