"""Start tasks in child processes, and receive their messages."""

import logging
import queue
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any, Self

from ptychostream.children.child_error import ChildError
from ptychostream.children.messages import Heartbeat, Message, encode_json
from ptychostream.children.supervisor import End, Supervisor

logger = logging.getLogger(__name__)

#: Where one process of several fails, the others soon fail because of it: so long their errors
#: are waited for, since only one of them names the cause.
_CAUSE_S = 2.0


@dataclass(frozen=True)
class Job:
    """What one child does.

    `task`: `module:function`; called in the child with the arguments and a `Channel`. What it
        returns, a mapping or None, arrives as `Done`.
    `arguments`: what the task needs, in values that JSON has; arrays go as paths of files.
    `environment`: variables of the child's environment, besides the parent's.
    `log`: where the child's log records and printed lines go; None drops them.
    `printed_level`: level at which printed lines are logged; None leaves the terminal to the child.
    """

    task: str
    arguments: Mapping[str, Any]
    environment: Mapping[str, str] = field(default_factory=dict)
    log: logging.Logger | None = logger
    printed_level: int | None = logging.INFO


class ChildGroup:
    """Tasks that run at the same time, each in a process of its own; a context manager.

    The children die with their parent, and when the context is left.

    `heartbeat_s`: longest time between two messages while the children live.
    `stop_grace_s`: how long a child that was asked to stop may take before it is killed.
    """

    def __init__(
        self, jobs: Sequence[Job], *, heartbeat_s: float = 0.25, stop_grace_s: float = 0.5
    ) -> None:
        self._heartbeat_s, self._grace_s = heartbeat_s, stop_grace_s
        self._inbox: queue.SimpleQueue[tuple[int, Message | End]] = queue.SimpleQueue()
        self._supervisors = [
            Supervisor(
                job.task,
                encode_json(dict(job.arguments)),
                partial(self._deliver, number),
                grace_s=stop_grace_s,
                environment=job.environment,
                log=job.log,
                printed_level=job.printed_level,
            )
            for number, job in enumerate(jobs)
        ]
        self._running = len(jobs)
        self._error: ChildError | None = None

    def _deliver(self, number: int, message: Message | End) -> None:
        self._inbox.put((number, message))

    def __enter__(self) -> Self:
        """Start the children; ChildError if a process can't be started."""
        try:
            for supervisor in self._supervisors:
                supervisor.start_child()
        except BaseException:  # no child outlives an error or an interrupt here
            self.stop()
            raise
        return self

    def __exit__(self, *error: object) -> None:
        self.stop()

    def __iter__(self) -> Iterator[tuple[int, Message]]:
        """Iterate over the messages of all children, until the last one has ended.

        Yields `number`: place of the child among the jobs; 0 for a `Heartbeat`.
        Yields `message`: every message; a `Heartbeat` where all are silent.
        """
        while self._running and self._error is None:
            try:
                number, message = self._inbox.get(timeout=self._heartbeat_s)
            except queue.Empty:
                yield 0, Heartbeat()
                continue
            if not isinstance(message, End):
                yield number, message
                continue
            self._running -= 1
            if message.error is not None:
                self._error = self._cause(number, message.error)
        if self._error is not None:
            raise self._error

    def _cause(self, number: int, first: ChildError) -> ChildError:
        """Find, among the errors that come soon after the first, one that explains itself."""
        deadline = time.monotonic() + _CAUSE_S
        first.number = number
        error: ChildError | None = first
        while self._running and (error is None or error.original is None):
            try:
                number, message = self._inbox.get(timeout=max(0.0, deadline - time.monotonic()))
            except queue.Empty:
                break
            if isinstance(message, End):
                self._running -= 1
                error = message.error
                if error is not None:
                    error.number = number
        return first if error is None or error.original is None else error

    def ask_to_stop(self) -> None:
        """Let each task's `Channel.should_stop` become True; the children go on living."""
        for supervisor in self._supervisors:
            supervisor.asked.set()

    def interrupt(self, seconds: float) -> None:
        """Send SIGTERM to each child, and wait until all are gone, but not for longer."""
        for supervisor in self._supervisors:
            supervisor.interrupt_child()
        deadline = time.monotonic() + seconds
        for supervisor in self._supervisors:
            supervisor.join(max(0.0, deadline - time.monotonic()))

    def stop(self) -> None:
        """Ask the children to stop, kill those that do not, and wait until they are gone."""
        for supervisor in self._supervisors:
            supervisor.stopping.set()
        for supervisor in self._supervisors:
            # A process that the system itself can't end must not hang its parent too.
            supervisor.join(self._grace_s + 5)


class ChildRun:
    """One task in a process of its own; a context manager that is iterated once.

    The child dies with its parent, and when the context or the iteration is left. Whatever it
    prints becomes log records, and so do its own log records.

    `task`, `arguments` and `log` are those of `Job`, the others those of `ChildGroup`.

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
        self._group = ChildGroup(
            [Job(task, arguments, log=log)], heartbeat_s=heartbeat_s, stop_grace_s=stop_grace_s
        )

    def __enter__(self) -> Self:
        """Start the child; ChildError if its process can't be started."""
        self._group.__enter__()
        return self

    def __exit__(self, *error: object) -> None:
        self.stop()

    def __iter__(self) -> Iterator[Message]:
        """Iterate over the child's messages, to its end; leaving early stops the child."""
        try:
            for _, message in self._group:
                yield message
        finally:
            self.stop()

    def stop(self) -> None:
        """Ask the child to stop, kill it if it does not, and wait until it is gone."""
        self._group.stop()
