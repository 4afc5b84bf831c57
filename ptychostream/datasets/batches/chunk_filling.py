"""Decode chunks in threads, in the order in which they are needed."""

import os
import threading
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ptychostream.datasets.store.group_store import GroupStore


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
        self._pool = ThreadPoolExecutor(
            max(decoders, store.requests_in_flight), thread_name_prefix="ptychostream-decode"
        )

    def close(self, *, wait: bool = True, cancel: bool = True) -> None:
        """Cancel what has not begun, and wait for what has."""
        self._pool.shutdown(wait=wait, cancel_futures=cancel)

    def start(self, chunk: int, out: NDArray[Any]) -> "Future[None]":
        """Begin to read a chunk into memory (patterns_per_chunk, N, N)."""
        return self._pool.submit(self.read, chunk, out)

    def read(self, chunk: int, out: NDArray[Any]) -> None:
        """Read a chunk into memory."""
        self.store.chunks.read_chunk(chunk, out, self._decoding)


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
    ) -> None:
        self._readers = readers
        self._patterns, self._slots = patterns, slots
        self._process = os.getpid()
        self._pending = {
            chunk: readers.start(chunk, self._memory(chunk)) for chunk in chunks.tolist()
        }

    def _memory(self, chunk: int) -> NDArray[Any]:
        start = self._slots[chunk]
        return self._patterns[start : start + self._readers.store.patterns_per_chunk]

    @property
    def is_done(self) -> bool:
        """Whether nothing is left to decode."""
        return all(future.done() for future in self._pending.values())

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
                self._readers.read(chunk, self._memory(chunk))
            else:
                future.result()
            del self._pending[chunk]

    def stop(self) -> None:
        """Cancel chunks that are not needed any more, so that their memory can be reused."""
        for future in self._pending.values():
            if not future.cancel():
                future.exception()
        self._pending.clear()
