"""Start a task in a child process and listen to it."""

import logging
import queue
from collections.abc import Iterator, Mapping
from types import TracebackType
from typing import Any, Self

from ptychostream.children.messages import Heartbeat, Message, encode_json
from ptychostream.children.supervisor import End, Supervisor

logger = logging.getLogger(__name__)


class ChildRun:
    """A task in a process of its own; a context manager that is iterated once.

    The child dies with its parent, and when the context or the iteration is left. Whatever it
    prints becomes log records, and so do its own log records.

    Parameters
    ----------
    task : str
        `module:function`; called in the child with the arguments and a `Channel`. What it
        returns, a mapping or None, arrives as `Done`.
    arguments : mapping
        What the task needs, as JSON can say it; arrays go as paths of files.
    heartbeat_s : float
        Longest time between two messages while the child lives.
    stop_grace_s : float
        How long a child that was asked to stop may take before it is killed.
    log : logging.Logger
        Where the child's output and log records go.

    Raises
    ------
    ValueError
        If the task is not named as `module:function`.
    TypeError
        If JSON can't say the arguments.

    Examples
    --------
    >>> with ChildRun("ptychostream.children.serve:echo", {"value": 3}) as run:
    ...     [message for message in run if not isinstance(message, Heartbeat)]
    [Done(values={'value': 3})]
    """

    def __init__(
        self,
        task: str,
        arguments: Mapping[str, Any],
        *,
        heartbeat_s: float = 0.25,
        stop_grace_s: float = 0.5,
        log: logging.Logger = logger,
    ) -> None:
        module, _, function = task.partition(":")
        if not module or not function:
            raise ValueError(f"task {task!r} must be named as 'module:function'")
        self._heartbeat_s = heartbeat_s
        self._messages: queue.SimpleQueue[Message | End] = queue.SimpleQueue()
        self._supervisor = Supervisor(
            task, encode_json(dict(arguments)), self._messages.put, stop_grace_s, log
        )

    def __enter__(self) -> Self:
        """Start the child.

        Raises
        ------
        ChildError
            If the process can't be started.
        """
        self._supervisor.start_child()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.stop()

    def __iter__(self) -> Iterator[Message]:
        """Iterate over the child's messages, to its end; leaving early stops the child.

        Yields
        ------
        Message
            Every message; a `Heartbeat` where the child is silent.

        Raises
        ------
        ChildError
            If the child ends without `Done`, unless it was stopped.
        """
        try:
            while True:
                try:
                    message = self._messages.get(timeout=self._heartbeat_s)
                except queue.Empty:
                    yield Heartbeat()
                    continue
                if not isinstance(message, End):
                    yield message
                    continue
                self._messages.put(message)  # whoever asks again hears the same
                if message.error is not None:
                    raise message.error
                return
        finally:
            self.stop()

    def stop(self) -> None:
        """Ask the child to stop, kill it if it does not, and wait until it is gone."""
        self._supervisor.stop_child()
