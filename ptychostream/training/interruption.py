"""End a run between two batches, on the request of a host program or after a signal."""

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType
from typing import Any

import lightning
import torch
from typing_extensions import override

from ptychostream.progress import ShouldStop

#: Signals that ask a program to end.
_SIGNALS = (signal.SIGINT, signal.SIGTERM)


class TrainingEnded(BaseException):
    """Raised to leave Lightning's loops; no Exception, so that no handler of those catches it."""


class StopRequests(lightning.pytorch.callbacks.Callback):
    """Leave training between two batches, after writing a checkpoint.

    `should_stop`: called after each batch; once it is True, training ends.
    `checkpoint`: where the state goes, so that the run can be resumed; None writes none.
    `has_begun`: whether all is restored and the first batch may come.
    `epochs_done`: when training was left: the last epoch counts in part.
    """

    def __init__(self, should_stop: ShouldStop | None, checkpoint: Path | None) -> None:
        self.stopped = self.signalled = self.has_begun = False
        self.epochs_done = 0.0
        self._should_stop, self._checkpoint = should_stop, checkpoint

    @override
    def on_train_start(self, trainer: Any, pl_module: Any) -> None:
        self.has_begun = True
        if threading.current_thread() is not threading.main_thread():
            return

        def note(number: int, frame: FrameType | None) -> None:
            if self.signalled:
                # A second signal ends the program at once, in any state.
                raise TrainingEnded
            self.signalled = True

        for number in _SIGNALS:
            signal.signal(number, note)

    @override
    def on_train_epoch_start(self, trainer: Any, pl_module: Any) -> None:
        if self._requested(trainer, host=self.stopped, signals=True):
            self.epochs_done = trainer.current_epoch
            raise TrainingEnded

    @override
    def on_train_batch_end(
        self, trainer: Any, pl_module: Any, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        host = self._host_stops(trainer)
        if trainer.is_last_batch:
            # The end of an epoch writes a checkpoint of its own.
            self.stopped = self.stopped or host
            return
        # Accumulated gradients are not in a checkpoint.
        complete = not trainer.fit_loop.epoch_loop._should_accumulate()
        if self._requested(trainer, host=host, signals=complete):
            batches = trainer.num_training_batches
            self.epochs_done = trainer.current_epoch + (batch_idx + 1) / batches
            if complete and self._checkpoint is not None:
                trainer.save_checkpoint(self._checkpoint)
            raise TrainingEnded

    @override
    def on_validation_batch_end(self, trainer: Any, *_: Any) -> None:
        if self._requested(trainer, host=self._host_stops(trainer), signals=False):
            self.epochs_done = trainer.current_epoch + 1
            raise TrainingEnded

    def _host_stops(self, trainer: Any) -> bool:
        if self._should_stop is None or not trainer.is_global_zero:
            return False
        return bool(self._should_stop())

    def _requested(self, trainer: Any, *, host: bool, signals: bool) -> bool:
        """Decide for all processes together, so that none waits for one that has ended."""
        wanted = 2 * host + (signals and self.signalled)
        if trainer.world_size > 1:
            strategy = trainer.strategy
            highest = torch.tensor(float(wanted), device=strategy.root_device)
            wanted = int(strategy.reduce(highest, reduce_op="max"))
        self.stopped = wanted > 1
        return wanted > 0


@contextmanager
def signals_given_back() -> Iterator[None]:
    """Restore the handlers of the signals that end a program when the block is left."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = {number: signal.getsignal(number) for number in _SIGNALS}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
