"""Decode the windows of an epoch in threads, before the batches need their patterns."""

import mmap
import weakref
from collections import deque
from collections.abc import Callable, Generator
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ptychostream.datasets.batches.chunk_filling import ChunkFilling, ChunkReaders
from ptychostream.datasets.batches.sampler import Window
from ptychostream.datasets.large_tables import blocks_of
from ptychostream.datasets.store.group_store import GroupStore
from ptychostream.scan import to_amplitude

#: Arrays of at least this size, in bytes, are allocated page by page.
_LARGE = 2**21

#: Patterns whose square roots are taken together: 256 of 64 x 64 px are 4 MiB.
_PART = 256

_SIGNED = {"uint16": np.int16, "uint32": np.int32}

#: Chunks (W, C) of the members of groups (W,).
ChunksOf = Callable[[NDArray[np.integer]], NDArray[np.integer]]

#: Windows decoded ahead of the one that is served, by default.
AHEAD = 1


class DecodedWindow:
    """The patterns of a window's chunks, decoded or being decoded.

    Parameters
    ----------
    groups : (W,) int
        Rows of the group table, in the order in which they are served.
    patterns : (rows, N, N)
        The chunks' patterns, one after the other.
    slots : (num_chunks,) int64
        First row of each chunk in `patterns`.
    has_amplitudes : bool
        Whether `patterns` are the square roots of what is stored.
    filling : ChunkFilling, optional
        What decodes the chunks; None where all of them are there.
    """

    def __init__(
        self,
        groups: NDArray[np.integer],
        patterns: NDArray[Any],
        slots: NDArray[np.int64],
        *,
        has_amplitudes: bool = False,
        filling: ChunkFilling | None = None,
    ) -> None:
        self.groups, self.has_amplitudes = groups, has_amplitudes
        self._patterns, self._slots, self._filling = patterns, slots, filling
        self._moved: dict[torch.device, Tensor] = {}

    @property
    def num_patterns(self) -> int:
        """Patterns that there is memory for."""
        return len(self._patterns)

    @property
    def is_decoded(self) -> bool:
        """Whether all chunks are there."""
        return self._filling is None or self._filling.is_done

    def as_amplitudes(self) -> "DecodedWindow":
        """Return the window with the square roots of its counts, which are then taken once."""
        if self._filling is not None:
            self._filling.wait()
        roots = window_memory(self._patterns.shape, np.dtype(np.float32))
        for rows in blocks_of(len(roots), _PART):
            to_amplitude(self._patterns[rows], "counts", out=roots[rows])
        return DecodedWindow(self.groups, roots, self._slots, has_amplitudes=True)

    def serving(self, groups: NDArray[np.integer]) -> "DecodedWindow":
        """Return a window of other groups with the same patterns."""
        served = DecodedWindow(
            groups,
            self._patterns,
            self._slots,
            has_amplitudes=self.has_amplitudes,
            filling=self._filling,
        )
        served._moved = self._moved
        return served

    @property
    def dtype(self) -> np.dtype[Any]:
        """Of the patterns that `gather` copies."""
        return self._patterns.dtype

    def gather_on(
        self,
        device: torch.device,
        chunk: NDArray[np.int64],
        inside: NDArray[np.int64],
        *,
        pins: bool = False,
    ) -> Tensor:
        """Copy patterns out of the window, on a device that the window is moved to once.

        Parameters
        ----------
        device : torch.device
            Where the window goes, in its stored data type: a pattern that many groups hold
            crosses the bus once.
        chunk, inside : (R,) int64
            Chunk of each wanted pattern, and its row in that chunk.

        Returns
        -------
        (R, N, N) float32
            The patterns, as stored.
        """
        if device not in self._moved:
            if self._filling is not None:
                self._filling.wait()
            # uint16 and uint32 are viewed as int16 and int32, which torch can gather.
            signed = _SIGNED.get(self._patterns.dtype.name)
            bits = self._patterns if signed is None else self._patterns.view(signed)
            tensor = torch.from_numpy(bits)
            if pins:
                tensor = tensor.pin_memory()
            self._moved[device] = tensor.to(device, non_blocking=pins)
        rows = torch.from_numpy(self._slots[chunk] + inside).to(device)
        values = self._moved[device].index_select(0, rows)
        if self._patterns.dtype.name == "uint16":
            values = values.to(torch.int32).bitwise_and_(0xFFFF)
        elif self._patterns.dtype.name == "uint32":
            values = values.to(torch.int64).bitwise_and_(0xFFFFFFFF)
        return values.to(torch.float32)

    def gather(
        self, chunk: NDArray[np.int64], inside: NDArray[np.int64], out: NDArray[Any]
    ) -> None:
        """Copy patterns out of the window, as soon as their chunks are there.

        Parameters
        ----------
        chunk, inside : (R,) int64
            Chunk of each wanted pattern, and its row in that chunk.
        out : (R, N, N)
            Receives them, in the window's data type.
        """
        if self._filling is not None:
            self._filling.wait(chunk)
        np.take(self._patterns, self._slots[chunk] + inside, axis=0, out=out, mode="clip")


def decoded_windows(
    store: GroupStore,
    windows: list[Window],
    chunks_of: ChunksOf,
    *,
    window_chunks: int,
    num_threads: int = 0,
    ahead: int = AHEAD,
) -> Generator[DecodedWindow, None, None]:
    """Decode windows, the next one while the current one is served.

    Memory is allocated once, for as many windows as are decoded at a time, and reused: a window
    is valid until the next one is requested.

    Parameters
    ----------
    chunks_of : callable
        Chunks (W, C) of the members of groups (W,).
    window_chunks : int
        Chunks that a window's memory holds; one that needs more has its own.
    """
    room = min(window_chunks, max((len(window.chunks) for window in windows), default=0))
    free = [
        window_memory((room * store.patterns_per_chunk, store.N, store.N), store.dtype)
        for _ in range(min(1 + ahead, len(windows)))
    ]
    readers = ChunkReaders(store, num_threads)
    pending: deque[tuple[DecodedWindow, ChunkFilling, NDArray[Any] | None]] = deque()

    def served() -> Generator[DecodedWindow, None, None]:
        window, filling, memory = pending.popleft()
        yield window
        filling.stop()
        if memory is not None:
            free.append(memory)

    try:
        for window in windows:
            memory = free.pop() if len(window.chunks) <= room else None
            # Of a window that ranks share, only what this rank's groups need.
            chunks = _in_order_of_need(chunks_of(window.groups))
            started, filling = _begin(readers, window, chunks, memory)
            pending.append((started, filling, memory))
            if len(pending) > ahead:
                yield from served()
        while pending:
            yield from served()
    finally:
        readers.close()


def whole_window(
    store: GroupStore, window: Window, chunks_of: ChunksOf, *, num_threads: int = 0
) -> DecodedWindow:
    """Begin to decode a window that serves all groups of all epochs.

    Parameters
    ----------
    window : Window
        Those groups that are served first; its chunks are all.
    chunks_of : callable
        Chunks (W, C) of the members of groups (W,).
    """
    readers = ChunkReaders(store, num_threads)
    first = _in_order_of_need(chunks_of(window.groups))
    chunks = np.concatenate([first, np.setdiff1d(window.chunks, first)])
    decoded, filling = _begin(readers, window, chunks, None)
    # The threads end with the last chunk, or when the window is released.
    readers.close(wait=False, cancel=False)
    weakref.finalize(filling, readers.close, wait=False)
    return decoded


def window_memory(shape: tuple[int, ...], dtype: np.dtype[Any]) -> NDArray[Any]:
    """Allocate an array of zeros, a large one in ordinary pages.

    NumPy asks for huge ones, whose first write takes four times as long on virtual machines that
    give unused memory back to their host.
    """
    size = int(np.prod(shape)) * dtype.itemsize
    if size < _LARGE or not hasattr(mmap, "MAP_ANONYMOUS"):
        return np.zeros(shape, dtype)
    memory = mmap.mmap(-1, size, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
    return np.frombuffer(memory, dtype).reshape(shape)


def _in_order_of_need(chunks: NDArray[np.integer]) -> NDArray[np.int64]:
    """List each chunk once, in the order in which they are needed."""
    unique, first = np.unique(chunks, return_index=True)
    return unique[np.argsort(first)].astype(np.int64)


def _begin(
    readers: ChunkReaders,
    window: Window,
    chunks: NDArray[np.int64],
    memory: NDArray[Any] | None,
) -> tuple[DecodedWindow, ChunkFilling]:
    store = readers.store
    per_chunk = store.patterns_per_chunk
    slots = np.full(store.num_chunks, -1, dtype=np.int64)
    slots[window.chunks] = np.arange(len(window.chunks)) * per_chunk
    number = len(window.chunks) * per_chunk
    if memory is None:
        memory = window_memory((number, store.N, store.N), store.dtype)
    patterns = memory[:number]
    filling = ChunkFilling(readers, chunks, patterns, slots)
    return DecodedWindow(window.groups, patterns, slots, filling=filling), filling
