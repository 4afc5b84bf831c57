"""Tables of any length with bounded memory: large ones lie in scratch files and go by blocks."""

import logging
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ptychostream.errors import ConfigurationError
from ptychostream.scratch import allocate

logger = logging.getLogger(__name__)

#: Tables above this size, in bytes, lie in files: 64 MiB are the positions of 4 million patterns.
IN_MEMORY = 2**26

#: Rows that are processed together.
_BLOCK = 2**20


def new_table(shape: tuple[int, ...], dtype: Any) -> NDArray[Any]:
    """Make a table of zeros: a large one in a file that is deleted with it.

    The system writes the file's pages to disk, and takes their memory, when it needs it. The file
    lies in the folder for temporary files, which the environment variable TMPDIR names.
    """
    size = int(np.prod(shape, dtype=object)) * np.dtype(dtype).itemsize
    if size <= IN_MEMORY:
        return np.zeros(shape, dtype)
    folder = Path(tempfile.gettempdir())
    try:
        table = allocate(shape, dtype, folder, purpose="tables of a store")
    except ConfigurationError:
        logger.warning(
            "a table of %.2g GB is held in memory: '%s' has no room for it; set TMPDIR to a folder "
            "with more space",
            size / 1e9,
            folder,
        )
        return np.zeros(shape, dtype)
    # A plain array: each slice of a memmap would cost as much as a small copy.
    return table.view(np.ndarray)


def blocks_of(number: int, length: int = 0) -> Iterator[slice]:
    """Split rows into blocks, so that temporary arrays stay small."""
    step = length or _BLOCK
    return (slice(at, min(at + step, number)) for at in range(0, number, step))


def row_numbers(number: int) -> NDArray[np.int64]:
    """List the rows 0, 1, … of a table."""
    rows = new_table((number,), np.int64)
    for block in blocks_of(number):
        rows[block] = np.arange(block.start, block.stop)
    return rows


def row_type(number: int) -> type[np.int32] | type[np.int64]:
    """Return the smaller type that holds the rows of a table."""
    return np.int32 if number <= np.iinfo(np.int32).max else np.int64


def joined_rows(parts: list[NDArray[Any]]) -> NDArray[Any]:
    """Join tables; a single one is not copied."""
    if len(parts) == 1:
        return parts[0]
    number = sum(len(part) for part in parts)
    whole = new_table((number, *parts[0].shape[1:]), np.result_type(*parts))
    at = 0
    for part in parts:
        whole[at : at + len(part)] = part
        at += len(part)
    return whole


def sorted_rows(
    numbers_of: Callable[[slice], NDArray[np.integer]], length: int, count: int
) -> tuple[NDArray[np.integer], NDArray[np.int64]]:
    """Sort rows by a number below `count` that each has; those with the same one keep their order.

    Parameters
    ----------
    numbers_of : callable
        Returns the numbers of a slice of the rows.
    length : int
        Number of rows.

    Returns
    -------
    rows : (length,) int
        The rows, sorted.
    starts : (count + 1,) int64
        Where the rows of each number begin in `rows`.
    """
    # A counting sort: how many rows each number has says where they go, block by block.
    step = max(_BLOCK, count)
    kind = np.uint16 if count <= 2**16 else np.int64  # NumPy sorts 16 bits in linear time
    starts = np.zeros(count + 1, np.int64)
    for block in blocks_of(length, step):
        starts[1:] += np.bincount(numbers_of(block), minlength=count)
    np.cumsum(starts, out=starts)
    rows = new_table((length,), row_type(length))
    nexts = starts[:-1].copy()
    for block in blocks_of(length, step):
        numbers = numbers_of(block)
        here = np.bincount(numbers, minlength=count)
        order = np.argsort(numbers.astype(kind), kind="stable")
        if len(order) == length:
            rows[:] = order
            break
        # The first of each number goes to the next free place of that number, and so on.
        shift = nexts - (np.cumsum(here) - here)
        rows[np.repeat(shift, here) + np.arange(len(order))] = order + block.start
        nexts += here
    return rows, starts
