"""The running application: progress, stop, curves and pictures."""

import time
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from functools import wraps
from typing import Any, Protocol

from ptychodus.api.observer import Observable
from ptychodus.api.reconstruct import ReconstructInput, Reconstructor

#: The window is left alone for so many times as long as it took to show a picture.
_REST = 10

#: A curve: epochs or passes, and a value of each.
Curve = Sequence[tuple[float, float]]


class Plot(Protocol):
    """Where the window draws curves."""

    def draw(self, title: str, curves: Mapping[str, Curve], *, quantity: str) -> None:
        """Draw curves of a quantity in the place of those before."""


class Application:
    """The application of a library; unconnected, it never stops and shows nothing.

    `model_changes`: notified in the window's thread when another model is used from now on.
    """

    def __init__(self) -> None:
        self._processing: Any = None
        self._tasks: Any = None
        self._plot: Plot | None = None
        self._is_drawing = False
        self._drawing_began = self._next_picture = 0.0
        self._training_inputs: deque[list[ReconstructInput]] = deque()
        self._also_trained_on: list[ReconstructInput] = []
        self.model_changes = Observable()

    def connect(self, processing: Any, tasks: Any, reconstructors: Sequence[Reconstructor]) -> None:
        """Connect to the application, which makes its libraries before its other parts."""
        self._processing, self._tasks = processing, tasks
        self._remember_training_inputs(processing.processing_api, reconstructors)

    def connect_plot(self, plot: Plot) -> None:
        """Draw curves in the window from now on."""
        self._plot = plot

    @property
    def wants_pictures(self) -> bool:
        """Whether a window can show a result that is not the last, and has shown the one before."""
        is_ready = not self._is_drawing and time.monotonic() >= self._next_picture
        return self._plot is not None and is_ready and not self.should_stop()

    def picture_comes(self) -> None:
        """Note when the window begins to show a picture, which is its next task."""

        def begin() -> None:
            self._drawing_began = time.monotonic()

        self._in_window(begin)

    def picture_is_sent(self) -> None:
        """Mark a picture as sent: the next is wanted after the window has shown it, and a rest.

        Of a large scan, ptychodus computes the geometry of all positions anew for each product.
        """
        self._is_drawing = True

        def is_shown() -> None:
            now = time.monotonic()
            self._next_picture = now + _REST * (now - self._drawing_began)
            self._is_drawing = False

        self._in_window(is_shown)

    @property
    def has_window(self) -> bool:
        """Whether there is a window."""
        return self._plot is not None

    @property
    def is_closing(self) -> bool:
        """Whether the application ends, so that no result is wanted."""
        return self._tasks is not None and bool(self._tasks.is_stopping)

    def should_stop(self) -> bool:
        """Return whether the user pressed Stop, or the application is being closed."""
        if self._processing is None:
            return False
        return bool(self._monitor.is_stopping or self.is_closing)

    def show_progress(self, done: int, goal: int) -> None:
        """Move the progress bar, without a result to show."""
        if self._processing is not None:
            self._monitor.update_progress(done, goal)

    def show_log(self) -> None:
        """Let the window show log records now; by itself it does so when the bar moves."""
        self._in_window(lambda: self._monitor.notify_observers())

    def show_curves(self, title: str, curves: Mapping[str, Curve], *, quantity: str) -> None:
        """Draw curves of a quantity, where there is a window."""
        plot = self._plot
        if plot is not None:
            kept = {name: list(curve) for name, curve in curves.items()}
            self._in_window(lambda: plot.draw(title, kept, quantity=quantity))

    def show_model(self) -> None:
        """Update what the window shows of the model in use."""

        def show() -> None:
            self.model_changes.notify_observers()
            self._processing.algorithm_parameter.notify_observers()

        self._in_window(show)

    def take_training_inputs(self) -> list[ReconstructInput]:
        """Return the data that were loaded when the current training was started."""
        return self._training_inputs.popleft() if self._training_inputs else []

    def train_also_on(self, inputs: Sequence[ReconstructInput]) -> None:
        """Add inputs to the one of the next training."""
        self._also_trained_on = list(inputs)

    @property
    def _monitor(self) -> Any:
        return self._processing.processing_api.task_monitor

    def _in_window(self, task: Callable[[], None]) -> None:
        if self._processing is not None:
            self._tasks.put_foreground_task(task)

    def _remember_training_inputs(self, api: Any, reconstructors: Sequence[Reconstructor]) -> None:
        """Keep the data that ptychodus prepares for a training but does not pass to the trainer.

        Trainings run in the order in which they were asked for.
        """
        is_training = False
        prepare, train = api.get_reconstruct_input, api.train
        parameter = self._processing.algorithm_parameter

        @wraps(prepare)
        def get_reconstruct_input(*args: Any, **kwargs: Any) -> ReconstructInput:
            prepared: ReconstructInput = prepare(*args, **kwargs)
            if is_training and parameter.get_current_reconstructor() in reconstructors:
                self._training_inputs.append([prepared, *self._also_trained_on])
            return prepared

        @wraps(train)
        def train_and_remember(*args: Any, **kwargs: Any) -> None:
            nonlocal is_training
            is_training = True
            try:
                train(*args, **kwargs)
            finally:
                is_training = False
                self._also_trained_on = []

        api.get_reconstruct_input, api.train = get_reconstruct_input, train_and_remember
