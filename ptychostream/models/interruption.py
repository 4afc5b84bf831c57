"""End a run between two batches: when a host program asks for it, or a signal came."""

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType
from typing import Any

import lightning

from ptychostream.models.progress import ShouldStop

#: Signals that ask a program to end.
_SIGNALS = (signal.SIGINT, signal.SIGTERM)


class TrainingEnded(BaseException):
    """Leaves Lightning's loops; no error, so not caught as one on the way."""


class StopRequests(lightning.pytorch.callbacks.Callback):
    """Leave training between two batches, after writing a checkpoint.

    Parameters
    ----------
    should_stop : callable, optional
        Asked after each batch; True, and from then on always True, ends training.
    checkpoint : Path, optional
        Where the state goes, so that the run can be resumed; None writes none.

    Attributes
    ----------
    stopped : bool
        Whether `should_stop` ended the run.
    signalled : bool
        Whether a signal did.
    """

    def __init__(self, should_stop: ShouldStop | None, checkpoint: Path | None) -> None:
        self.stopped = self.signalled = False
        self._should_stop, self._checkpoint = should_stop, checkpoint

    def on_train_start(self, trainer: Any, pl_module: Any) -> None:
        """Take the signals that end a program, where this is the main thread.

        Parameters
        ----------
        trainer, pl_module : object
            Given by Lightning, whose own handlers are set up by now and give way.
        """
        if threading.current_thread() is not threading.main_thread():
            return

        def note(number: int, frame: FrameType | None) -> None:
            if self.signalled:
                # Asked twice: at once, whatever state that leaves.
                raise TrainingEnded
            self.signalled = True

        for number in _SIGNALS:
            signal.signal(number, note)

    def on_train_epoch_start(self, trainer: Any, pl_module: Any) -> None:
        """Look for signals that came at the end of the epoch before.

        Parameters
        ----------
        trainer, pl_module : object
            Given by Lightning.
        """
        if self._agree(trainer, self.signalled):
            raise TrainingEnded

    def on_train_batch_end(
        self, trainer: Any, pl_module: Any, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Look for requests.

        Parameters
        ----------
        trainer, pl_module, outputs, batch : object
            Given by Lightning.
        batch_idx : int
            Number of the batch.
        """
        # Gradients that still add up are in no checkpoint, and an epoch's end writes its own.
        complete = (
            not trainer.fit_loop.epoch_loop._should_accumulate() and not trainer.is_last_batch
        )
        if self._agree(trainer, self._host_stops(trainer) or (self.signalled and complete)):
            if complete and self._checkpoint is not None:
                trainer.save_checkpoint(self._checkpoint)
            raise TrainingEnded

    def on_validation_batch_end(self, trainer: Any, *_: Any) -> None:
        """Look for requests of the host; signals wait for the epoch's end.

        Parameters
        ----------
        trainer : object
            Given by Lightning, as is the rest.
        *_ : object
            Not used.
        """
        if self._agree(trainer, self._host_stops(trainer)):
            raise TrainingEnded

    def _host_stops(self, trainer: Any) -> bool:
        if self._should_stop is not None and trainer.is_global_zero:
            self.stopped = bool(self._should_stop())
        return self.stopped

    @staticmethod
    def _agree(trainer: Any, wanted: bool) -> bool:
        """Leave after the same batch on all ranks: none must wait for one that has left."""
        if trainer.world_size == 1:
            return wanted
        return bool(trainer.strategy.reduce_boolean_decision(wanted, all=False))


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
