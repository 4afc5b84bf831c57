"""Patterns of a store's segments: by chunk for loaders, by row for everything else."""

from collections.abc import Callable
from contextlib import AbstractContextManager
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ptychostream.datasets.large_tables import new_table
from ptychostream.datasets.store.chunk_cache import ChunkCache
from ptychostream.datasets.store.segment import Segment
from ptychostream.datasets.store.shards import GoneError


class StoredChunks:
    """The chunks of all segments, numbered through, and the patterns in them.

    Parameters
    ----------
    cache : ChunkCache
        Keeps the chunks that `read_rows` decoded last.
    reopen : callable
        Returns the chunks of the store as it is now; called where a segment is gone.
    """

    def __init__(
        self,
        segments: tuple[Segment, ...],
        cache: ChunkCache,
        *,
        reopen: Callable[[], "StoredChunks"],
    ) -> None:
        self._segments, self._cache, self._reopen = segments, cache, reopen
        self._length = segments[0].patterns_per_chunk
        self._first_chunks = np.cumsum([0, *(segment.num_chunks for segment in segments)])

    @property
    def number(self) -> int:
        """Number of chunks."""
        return int(self._first_chunks[-1])

    @cached_property
    def storage_rows(self) -> NDArray[np.int64]:
        """(M,) int64: chunk · patterns per chunk + number in the chunk, of each row."""
        if len(self._segments) == 1:
            return self._segments[0].storage_rows
        rows = new_table((sum(s.num_patterns for s in self._segments),), np.int64)
        at = 0
        for first, segment in zip(self._first_chunks, self._segments, strict=False):
            here = rows[at : at + segment.num_patterns]
            np.add(segment.storage_rows, first * self._length, out=here)
            at += segment.num_patterns
        return rows

    def read_chunk(
        self,
        chunk: int,
        out: NDArray[Any],
        decoding: AbstractContextManager[Any] | None = None,
    ) -> None:
        """Decode one chunk.

        Parameters
        ----------
        chunk : int
            Which chunk of `patterns_per_chunk` patterns, in storage order.
        out : (patterns_per_chunk, N, N)
            Receives the patterns, as measured; the last chunk may leave its end as it is.
        decoding : context manager, optional
            Entered while the chunk is decoded, and not while it is fetched: a semaphore bounds
            the threads that compute.

        Raises
        ------
        DataContractError
            If the chunk is damaged or missing; the message names it.
        """
        number, inside = self._locate(chunk)
        try:
            self._segments[number].read_chunk(inside, out, decoding)
        except GoneError:
            if not number:
                raise
            self._read_packed(number, inside, out)

    def read_rows(self, rows: Any) -> NDArray[Any]:
        """Read the patterns (B, N, N) of some rows; see `GroupStore.diffraction`."""
        wanted = np.asarray(rows)
        if wanted.size and wanted.dtype.kind not in "iu":
            raise IndexError(
                f"rows are {wanted.dtype}, expected whole numbers; of a mask, take np.flatnonzero"
            )
        wanted = wanted.astype(np.int64).ravel()
        num_patterns = len(self.storage_rows)
        if len(wanted) and (wanted.min() < 0 or wanted.max() >= num_patterns):
            raise IndexError(f"rows must lie in 0 … {num_patterns - 1}, got {wanted}")
        out = self._empty(len(wanted))
        chunk, inside = np.divmod(self.storage_rows[wanted], self._length)
        by_chunk = np.argsort(chunk, kind="stable")
        numbers, firsts = np.unique(chunk[by_chunk], return_index=True)
        for number, here in zip(numbers, np.split(by_chunk, firsts[1:]), strict=False):
            out[here] = self._kept_chunk(int(number))[inside[here]]
        return out

    def _empty(self, number: int) -> NDArray[Any]:
        array = self._segments[0].array
        return np.empty((number, *array.shape[1:]), array.dtype)

    def _locate(self, chunk: int) -> tuple[int, int]:
        """Find the segment of a chunk, and the chunk's number in it."""
        number = int(np.searchsorted(self._first_chunks, chunk, side="right")) - 1
        return number, chunk - int(self._first_chunks[number])

    def _read_packed(self, number: int, chunk: int, out: NDArray[Any]) -> None:
        """Read a chunk of a segment that was packed into another one since this was opened."""
        first = sum(segment.num_patterns for segment in self._segments[:number])
        chunks, inside = np.divmod(self._segments[number].storage_rows, self._length)
        rows = np.flatnonzero(chunks == chunk)
        out[inside[rows]] = self._reopened.read_rows(first + rows)

    @cached_property
    def _reopened(self) -> "StoredChunks":
        return self._reopen()

    def _kept_chunk(self, chunk: int) -> NDArray[Any]:
        number, inside = self._locate(chunk)
        # Segments keep their names for ever, while chunks of the store are numbered anew.
        key = (self._segments[number].blocks, inside)
        return self._cache.get(key, lambda: self._decoded(chunk))

    def _decoded(self, chunk: int) -> NDArray[Any]:
        decoded = self._empty(self._length)
        self.read_chunk(chunk, decoded)
        return decoded
