"""What a reconstructor asks of the running application, and tells it."""

from typing import Any


class Application:
    """The application that a library belongs to; alone, it never stops and shows nothing."""

    def __init__(self) -> None:
        self._processing: Any = None
        self._tasks: Any = None

    def connect(self, processing: Any, tasks: Any) -> None:
        """Join the application, which makes its libraries before its own parts.

        Parameters
        ----------
        processing : ProcessingCore
            Has the algorithm that is chosen, and watches the task that runs.
        """
        self._processing, self._tasks = processing, tasks

    def should_stop(self) -> bool:
        """Say whether the user pressed Stop, or the application is being closed."""
        if self._processing is None:
            return False
        monitor = self._processing.processing_api.task_monitor
        return bool(monitor.is_stopping or self._tasks.is_stopping)

    def show_progress(self, done: int, goal: int) -> None:
        """Move the progress bar, without a result to show."""
        if self._processing is not None:
            self._processing.processing_api.task_monitor.update_progress(done, goal)

    def refresh_buttons(self) -> None:
        """Let the window look again whether a model is there: it looks when training begins."""
        if self._processing is not None:
            chosen = self._processing.algorithm_parameter
            self._tasks.put_foreground_task(chosen.notify_observers)
