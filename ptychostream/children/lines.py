"""Cut a stream of bytes into lines."""

import re
from collections.abc import Callable

#: A line of output that never ends is handed on in pieces of this size.
_LONGEST = 1 << 13


class Lines:
    """Bytes in, lines out.

    Parameters
    ----------
    take : callable
        Takes each line, without its end.
    ends : bytes, optional
        Bytes that end a line of free text, in which a long line comes in pieces; None for
        records, which end in a line feed and always come whole.
    """

    def __init__(self, take: Callable[[bytes], None], ends: bytes | None) -> None:
        self._take = take
        self._is_text = ends is not None
        self._ends = re.compile(b"[" + re.escape(ends or b"\n") + b"]")
        self._parts: list[bytes] = []

    def add(self, data: bytes) -> None:
        """Take bytes, and hand on the lines that they complete."""
        *complete, rest = self._ends.split(data)
        for line in complete:
            self._parts.append(line)
            self.finish()
        self._parts.append(rest)
        if self._is_text and sum(map(len, self._parts)) > _LONGEST:
            self.finish()

    def finish(self) -> None:
        """Hand on what is left."""
        line = b"".join(self._parts)
        self._parts.clear()
        if line:
            self._take(line)
