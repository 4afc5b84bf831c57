"""Report the progress of a long computation to a host program, and stop on its request."""

import logging
import signal
import threading
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from types import FrameType
from typing import TypeVar

Item = TypeVar("Item")

logger = logging.getLogger(__name__)

#: Called between two batches; True ends training.
ShouldStop = Callable[[], bool]


def stop_once(should_stop: ShouldStop) -> ShouldStop:
    """Return a `ShouldStop` that stays True after the first time."""
    stopped = False

    def has_stopped() -> bool:
        nonlocal stopped
        stopped = stopped or bool(should_stop())
        return stopped

    return has_stopped


@contextmanager
def progress_bar(
    title: str, on_progress: Callable[[int, int], object] | None, *, is_shown: bool
) -> Iterator[Callable[[int, int], object] | None]:
    """Show a bar on the terminal, and call `on_progress` as well."""
    if not is_shown:
        yield on_progress
        return
    from rich.console import Console
    from rich.progress import Progress

    with Progress(console=Console(stderr=True), transient=True) as bar:
        task = bar.add_task(title, total=None)

        def tell(done: int, total: int) -> None:
            bar.update(task, completed=done, total=total)
            if on_progress is not None:
                on_progress(done, total)

        yield tell


class ProgressMonitor:
    """Report the steps of a computation, and record whether it was stopped.

    As a context manager it turns an interrupt (Ctrl-C) into a request to stop, so that the partial
    result can be used; a second interrupt raises KeyboardInterrupt as usual.

    `on_progress`: called with the steps done so far and their total.
    `should_stop`: called before every step; True ends the computation.
    `is_stopped`: whether a stop was requested.
    """

    def __init__(
        self,
        on_progress: Callable[[int, int], object] | None = None,
        should_stop: Callable[[], bool] | None = None,
    ) -> None:
        self._on_progress, self._should_stop = on_progress, should_stop
        self._done = 0
        self._listens = False
        self.total = 0
        self.is_stopped = False

    def __enter__(self) -> "ProgressMonitor":
        # Only Python's own handler is replaced: a host program may have one. Handlers can only be
        # set in the main thread.
        is_main = threading.current_thread() is threading.main_thread()
        if is_main and signal.getsignal(signal.SIGINT) is signal.default_int_handler:
            signal.signal(signal.SIGINT, self._interrupt)
            self._listens = True
        return self

    def __exit__(self, *error: object) -> None:
        if self._listens:
            signal.signal(signal.SIGINT, signal.default_int_handler)

    def advance(self, steps: int) -> None:
        """Count steps as done."""
        self._done += steps
        if self._on_progress is not None:
            self._on_progress(self._done, max(self.total, self._done))

    def steps(self, items: Iterable[Item], size: Callable[[Item], int]) -> Iterator[Item]:
        """Yield items until a stop is requested; an item is done when the next one is requested."""
        if self.asks_to_stop():
            return
        for item in items:
            yield item
            self.advance(size(item))
            if self.asks_to_stop():
                return

    def asks_to_stop(self) -> bool:
        """Return whether to stop; `should_stop` is not called again after it returned True."""
        if not self.is_stopped and self._should_stop is not None and self._should_stop():
            logger.warning("stopped as asked: the result is partial")
            self.is_stopped = True
        return self.is_stopped

    def _interrupt(self, number: int, frame: FrameType | None) -> None:
        if self.is_stopped:
            signal.default_int_handler(number, frame)
        logger.warning("interrupted: the result is partial; interrupt again to drop it")
        self.is_stopped = True
