"""Tell a host program how far a long computation is, and stop when it asks."""

import logging
import signal
import threading
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from types import FrameType, TracebackType
from typing import TypeVar

Item = TypeVar("Item")

logger = logging.getLogger(__name__)

#: Asked between two batches; True ends training.
ShouldStop = Callable[[], bool]


def stop_once(should_stop: ShouldStop) -> ShouldStop:
    """Make a `ShouldStop` stay True once it was."""
    stopped = False

    def ask() -> bool:
        nonlocal stopped
        stopped = stopped or bool(should_stop())
        return stopped

    return ask


@contextmanager
def progress_bar(
    title: str, on_progress: Callable[[int, int], object] | None, *, is_shown: bool
) -> Iterator[Callable[[int, int], object] | None]:
    """Show a bar on the terminal, besides whoever else hears of the progress."""
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
    """Report the steps of a computation, and remember whether it was stopped.

    As a context it turns an interrupt (Ctrl-C) into a request to stop, so that nothing is left
    half done and what there is can be used; a second interrupt raises as usual.

    Parameters
    ----------
    on_progress : callable, optional
        Called with the steps done so far and their total.
    should_stop : callable, optional
        Asked before every step; True ends the computation.

    Attributes
    ----------
    is_stopped : bool
        Whether it was asked to stop.
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
        # A host program's own way with interrupts is left alone; so are other threads.
        is_main = threading.current_thread() is threading.main_thread()
        if is_main and signal.getsignal(signal.SIGINT) is signal.default_int_handler:
            signal.signal(signal.SIGINT, self._interrupt)
            self._listens = True
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self._listens:
            signal.signal(signal.SIGINT, signal.default_int_handler)

    def advance(self, steps: int) -> None:
        """Count steps as done."""
        self._done += steps
        if self._on_progress is not None:
            self._on_progress(self._done, max(self.total, self._done))

    def steps(self, items: Iterable[Item], size: Callable[[Item], int]) -> Iterator[Item]:
        """Pass items on until asked to stop, and count each as done when the next is wanted."""
        if self.asks_to_stop():
            return
        for item in items:
            yield item
            self.advance(size(item))
            if self.asks_to_stop():
                return

    def asks_to_stop(self) -> bool:
        """Say whether to stop: the host program is asked until it says so once."""
        if not self.is_stopped and self._should_stop is not None and self._should_stop():
            logger.warning("stopped as asked: the result is partial")
            self.is_stopped = True
        return self.is_stopped

    def _interrupt(self, number: int, frame: FrameType | None) -> None:
        if self.is_stopped:
            signal.default_int_handler(number, frame)
        logger.warning("interrupted: the result is partial; interrupt again to drop it")
        self.is_stopped = True
