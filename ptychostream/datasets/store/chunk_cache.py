"""A cache of the decoded chunks that were read last, for random access."""

from collections import OrderedDict
from collections.abc import Callable, Hashable
from threading import Lock
from typing import Any

from numpy.typing import NDArray


class ChunkCache:
    """Keep the chunks that were used last.

    Parameters
    ----------
    budget : int
        Bytes of decoded chunks; one chunk is always kept.
    """

    def __init__(self, budget: int) -> None:
        self._budget, self._used = budget, 0
        self._chunks: OrderedDict[Hashable, NDArray[Any]] = OrderedDict()
        self._lock = Lock()

    def get(self, chunk: Hashable, decode: Callable[[], NDArray[Any]]) -> NDArray[Any]:
        """Return a chunk, decoded if it is not there."""
        with self._lock:
            found = self._chunks.get(chunk)
            if found is not None:
                self._chunks.move_to_end(chunk)
                return found
        # Not under the lock: several threads decode at the same time.
        made = decode()
        made.flags.writeable = False
        with self._lock:
            if chunk not in self._chunks:
                self._chunks[chunk] = made
                self._used += made.nbytes
            while self._used > self._budget and len(self._chunks) > 1:
                _, dropped = self._chunks.popitem(last=False)
                self._used -= dropped.nbytes
        return made
