"""What a task in a child process says to its parent, and hears from it."""

from collections.abc import Callable, Mapping
from pathlib import Path
from threading import Event
from typing import Any

from ptychostream.children.messages import Message, Output, Progress


class Channel:
    """A task's line to its parent.

    Parameters
    ----------
    send : callable
        Takes each message; from any thread.
    stop : threading.Event
        Set once the parent asks the task to stop.
    """

    def __init__(self, send: Callable[[Message], None], stop: Event) -> None:
        self._send, self._stop = send, stop

    def progress(self, done: int, total: int, values: Mapping[str, Any] | None = None) -> None:
        """Say how far the task has come."""
        self._send(Progress(int(done), int(total), dict(values or {})))

    def output(
        self,
        values: Mapping[str, Any] | None = None,
        paths: Mapping[str, str | Path] | None = None,
    ) -> None:
        """Hand over a result."""
        self._send(
            Output(dict(values or {}), {name: Path(path) for name, path in (paths or {}).items()})
        )

    def should_stop(self) -> bool:
        """Say whether the parent has asked to stop; a task that goes on is killed soon."""
        return self._stop.is_set()
