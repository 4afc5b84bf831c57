"""What happens between epochs: losses are kept, and said in the log."""

import logging
import time
from typing import Any

import lightning

logger = logging.getLogger(__name__)


class LossHistory(lightning.pytorch.callbacks.Callback):
    """Keep the losses of each epoch, and log them with the speed.

    Parameters
    ----------
    nepochs : int
        Epochs planned.

    Attributes
    ----------
    losses : dict
        `train_loss`, and `val_loss` with validation: one number per epoch.
    """

    def __init__(self, nepochs: int) -> None:
        self.losses: dict[str, list[float]] = {"train_loss": []}
        self._nepochs = nepochs
        self._began = 0.0

    def on_train_epoch_start(self, trainer: Any, pl_module: Any) -> None:
        """Note when an epoch begins.

        Parameters
        ----------
        trainer, pl_module : object
            Given by Lightning.
        """
        self._began = time.perf_counter()

    def on_train_epoch_end(self, trainer: Any, pl_module: Any) -> None:
        """Keep and log the epoch's losses.

        Parameters
        ----------
        trainer, pl_module : object
            Given by Lightning.
        """
        said = []
        for name in ("train_loss", "val_loss"):
            if name in trainer.callback_metrics:
                value = float(trainer.callback_metrics[name])
                self.losses.setdefault(name, []).append(value)
                said.append(f"{name} {value:.5g}")
        seconds = time.perf_counter() - self._began
        logger.info(
            "epoch %d of %d: %s (%.1f s)",
            trainer.current_epoch + 1,
            self._nepochs,
            ", ".join(said),
            seconds,
        )
