"""Decode the windows of an epoch in threads, before the batches need their patterns."""

import mmap
import os
import threading
import weakref
from collections import deque
from collections.abc import Callable, Generator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ptychostream.datasets.batches.sampler import Window
from ptychostream.datasets.store.group_store import GroupStore
from ptychostream.scan import to_amplitude

_HUGE_PAGE = 2 * 2**20

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
        filling: "ChunkFilling | None" = None,
    ) -> None:
        self.groups, self.has_amplitudes = groups, has_amplitudes
        self._patterns, self._slots, self._filling = patterns, slots, filling
        self._moved: dict[torch.device, Tensor] = {}

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


class ChunkReaders:
    """Threads that read and decode chunks.

    Parameters
    ----------
    num_threads : int
        Threads that decode at the same time; 0 is one per core. From a store that is far away,
        more chunks than these are requested at the same time, since requests mostly wait.
    """

    def __init__(self, store: GroupStore, num_threads: int = 0) -> None:
        decoders = num_threads or os.cpu_count() or 1
        self.store = store
        self._decoding = threading.Semaphore(decoders)
        self._scratch = threading.local()
        self._pool = ThreadPoolExecutor(
            max(decoders, store.requests_in_flight), thread_name_prefix="ptychostream-decode"
        )

    def close(self, *, wait: bool = True, cancel: bool = True) -> None:
        """Cancel what has not begun, and wait for what has."""
        self._pool.shutdown(wait=wait, cancel_futures=cancel)

    def start(self, chunk: int, out: NDArray[Any], *, amplitudes: bool) -> "Future[None]":
        """Begin to read a chunk into memory (patterns_per_chunk, N, N)."""
        return self._pool.submit(self.read, chunk, out, amplitudes=amplitudes)

    def read(self, chunk: int, out: NDArray[Any], *, amplitudes: bool) -> None:
        """Read a chunk into memory, as stored or as amplitudes."""
        if not amplitudes:
            self.store.chunks.read_chunk(chunk, out, self._decoding)
            return
        if not hasattr(self._scratch, "counts"):
            # Zeros, since the last chunk may not be full.
            self._scratch.counts = np.zeros(out.shape, self.store.dtype)
        self.store.chunks.read_chunk(chunk, self._scratch.counts, self._decoding)
        to_amplitude(self._scratch.counts, "counts", out=out)


class ChunkFilling:
    """Chunks that are being decoded, in the order in which batches need them.

    Parameters
    ----------
    chunks : (K,) int64
        Chunks to decode, in this order.
    patterns : (rows, N, N)
        The memory.
    slots : (num_chunks,) int64
        First row of each chunk in `patterns`.
    """

    def __init__(
        self,
        readers: ChunkReaders,
        chunks: NDArray[np.int64],
        patterns: NDArray[Any],
        slots: NDArray[np.int64],
        *,
        amplitudes: bool,
    ) -> None:
        self._readers, self._amplitudes = readers, amplitudes
        self._patterns, self._slots = patterns, slots
        self._process = os.getpid()
        self._pending = {
            chunk: readers.start(chunk, self._memory(chunk), amplitudes=amplitudes)
            for chunk in chunks.tolist()
        }

    def _memory(self, chunk: int) -> NDArray[Any]:
        start = self._slots[chunk]
        return self._patterns[start : start + self._readers.store.patterns_per_chunk]

    def wait(self, chunks: NDArray[np.int64] | None = None) -> None:
        """Wait until these chunks are there, or all of them.

        Raises
        ------
        DataContractError
            If a chunk is damaged.
        StorageError
            If it can't be read; it is tried again when it is needed again.
        """
        if not self._pending:
            return
        for chunk in list(self._pending) if chunks is None else np.unique(chunks).tolist():
            if (future := self._pending.get(chunk)) is None:
                continue
            # A forked process has none of the threads, and what failed before may work now.
            lost = not future.done() and os.getpid() != self._process
            if lost or (future.done() and future.exception() is not None):
                self._readers.read(chunk, self._memory(chunk), amplitudes=self._amplitudes)
            else:
                future.result()
            del self._pending[chunk]

    def stop(self) -> None:
        """Cancel chunks that are not needed any more, so that their memory can be reused."""
        for future in self._pending.values():
            if not future.cancel():
                future.exception()
        self._pending.clear()


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
        large_empty((room * store.patterns_per_chunk, store.N, store.N), store.dtype)
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
    store: GroupStore,
    window: Window,
    chunks_of: ChunksOf,
    *,
    amplitudes: bool,
    num_threads: int = 0,
) -> DecodedWindow:
    """Begin to decode a window that serves all groups of all epochs.

    Parameters
    ----------
    window : Window
        Those groups that are served first; its chunks are all.
    chunks_of : callable
        Chunks (W, C) of the members of groups (W,).
    amplitudes : bool
        Whether to keep the square roots of the counts: each is then taken once, not for each
        group of each epoch.
    """
    readers = ChunkReaders(store, num_threads)
    first = _in_order_of_need(chunks_of(window.groups))
    chunks = np.concatenate([first, np.setdiff1d(window.chunks, first)])
    decoded, filling = _begin(readers, window, chunks, None, amplitudes=amplitudes)
    # The threads end with the last chunk, or when the window is released.
    readers.close(wait=False, cancel=False)
    weakref.finalize(filling, readers.close, wait=False)
    return decoded


def large_empty(shape: tuple[int, ...], dtype: np.dtype[Any]) -> NDArray[Any]:
    """Allocate an array, in huge pages where the system has them.

    The first write to a page of 4 KiB costs as much as decoding what fits into it.
    """
    size = int(np.prod(shape)) * dtype.itemsize
    if size < _HUGE_PAGE or not hasattr(mmap, "MADV_HUGEPAGE"):
        return np.empty(shape, dtype)
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
    *,
    amplitudes: bool = False,
) -> tuple[DecodedWindow, ChunkFilling]:
    store = readers.store
    per_chunk = store.patterns_per_chunk
    slots = np.full(store.num_chunks, -1, dtype=np.int64)
    slots[window.chunks] = np.arange(len(window.chunks)) * per_chunk
    number = len(window.chunks) * per_chunk
    if memory is None:
        dtype = np.dtype(np.float32) if amplitudes else store.dtype
        memory = large_empty((number, store.N, store.N), dtype)
    patterns = memory[:number]
    filling = ChunkFilling(readers, chunks, patterns, slots, amplitudes=amplitudes)
    decoded = DecodedWindow(
        window.groups, patterns, slots, has_amplitudes=amplitudes, filling=filling
    )
    return decoded, filling
