"""Execute a plan: decode windows ahead in threads, and gather batches from them."""

import os
from collections import deque
from collections.abc import Generator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ptychostream.datasets.batches.sampler import Window
from ptychostream.datasets.store.group_store import GroupStore

_SIGNED = {"uint16": np.int16, "uint32": np.int32}

#: Windows decoded ahead of the one that is served, where no number is asked for.
AHEAD = 1


class DecodedWindow:
    """The patterns of a window's chunks, in memory.

    Parameters
    ----------
    patterns : (rows, N, N)
        The chunks' patterns, one after the other.
    slots : (num_chunks,) int64
        First row of each chunk in `patterns`.
    has_amplitudes : bool
        Whether `patterns` are the square roots of what is stored.

    Attributes
    ----------
    groups : (W,) int64
        Rows of the group table, in the order in which they are served.
    """

    def __init__(
        self,
        window: Window,
        patterns: NDArray[Any],
        slots: NDArray[np.int64],
        *,
        has_amplitudes: bool = False,
    ) -> None:
        self.groups, self.has_amplitudes = window.groups, has_amplitudes
        self._patterns, self._slots = patterns, slots
        self._moved: dict[torch.device, Tensor] = {}

    def serving(self, window: Window) -> "DecodedWindow":
        """Serve other groups from the same patterns."""
        served = DecodedWindow(
            window, self._patterns, self._slots, has_amplitudes=self.has_amplitudes
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
            # Torch gathers few unsigned kinds: the bits travel under a signed name.
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
        """Copy patterns out of the window.

        Parameters
        ----------
        chunk, inside : (R,) int64
            Chunk of each wanted pattern, and its row in that chunk.
        out : (R, N, N)
            Receives them, in the window's data type.
        """
        np.take(self._patterns, self._slots[chunk] + inside, axis=0, out=out, mode="clip")


def decoded_windows(
    store: GroupStore,
    windows: list[Window],
    *,
    window_chunks: int,
    num_threads: int = 0,
    ahead: int = AHEAD,
) -> Generator[DecodedWindow, None, None]:
    """Decode windows, the next one while the present one is served.

    Memory is taken once, for as many windows as are decoded at a time, and used again: a window
    is good until the next one is asked for.

    Parameters
    ----------
    window_chunks : int
        Chunks that a window's memory holds; one that needs more has its own.
    """
    threads = num_threads or os.cpu_count() or 1
    room = min(window_chunks, max((len(window.chunks) for window in windows), default=0))
    shape = (room * store.patterns_per_chunk, store.N, store.N)
    free = [np.empty(shape, store.dtype) for _ in range(min(1 + ahead, len(windows)))]
    with (
        ThreadPoolExecutor(threads, thread_name_prefix="ptychostream-decode") as pool,
        ThreadPoolExecutor(1, thread_name_prefix="ptychostream-window") as conductor,
    ):
        pending: deque[tuple[Future[DecodedWindow], NDArray[Any] | None]] = deque()

        def served() -> Generator[DecodedWindow, None, None]:
            future, memory = pending.popleft()
            yield future.result()
            if memory is not None:
                free.append(memory)

        try:
            for window in windows:
                memory = free.pop() if len(window.chunks) <= room else None
                pending.append((conductor.submit(_decode, store, window, pool, memory), memory))
                if len(pending) > ahead:
                    yield from served()
            while pending:
                yield from served()
        finally:
            for future, _ in pending:
                future.cancel()


def whole_window(
    store: GroupStore, window: Window, *, amplitudes: bool, num_threads: int = 0
) -> DecodedWindow:
    """Decode a window that serves all groups of all epochs.

    Parameters
    ----------
    amplitudes : bool
        Whether to keep the square roots of the counts: each is then taken once, not for each
        group of each epoch.
    """
    threads = num_threads or os.cpu_count() or 1
    with ThreadPoolExecutor(threads, thread_name_prefix="ptychostream-decode") as pool:
        return _decode(store, window, pool, None, amplitudes=amplitudes)


def _decode(
    store: GroupStore,
    window: Window,
    pool: ThreadPoolExecutor,
    memory: NDArray[Any] | None,
    *,
    amplitudes: bool = False,
) -> DecodedWindow:
    per_chunk = store.patterns_per_chunk
    slots = np.full(store.num_chunks, -1, dtype=np.int64)
    slots[window.chunks] = np.arange(len(window.chunks)) * per_chunk
    number = len(window.chunks) * per_chunk
    if memory is None:
        dtype = np.dtype(np.float32) if amplitudes else store.dtype
        memory = np.empty((number, store.N, store.N), dtype)
    patterns = memory[:number]

    def fill(chunk: int) -> None:
        here = patterns[slots[chunk] : slots[chunk] + per_chunk]
        if not amplitudes:
            store.read_chunk(chunk, here)
            return
        # The last chunk may leave its end as it is.
        counts = np.zeros(here.shape, store.dtype)
        store.read_chunk(chunk, counts)
        np.sqrt(counts, out=here, dtype=np.float32)

    for _ in pool.map(fill, window.chunks.tolist()):
        pass
    return DecodedWindow(window, patterns, slots, has_amplitudes=amplitudes)
