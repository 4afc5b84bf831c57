"""What happens between epochs: losses are kept, and said in the log."""

import logging
import time
from collections.abc import Mapping
from typing import Any

import lightning
import torch

from ptychostream.config import TrainingConfig, to_mapping

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


class Description(lightning.pytorch.callbacks.Callback):
    """Write what inference needs into each checkpoint, as plain data and tensors.

    Parameters
    ----------
    config : TrainingConfig
        What is trained.
    about : mapping
        `intensity_scale` and `probe_guess`, as a `ModelBundle` has them.
    history : LossHistory
        Where the losses are kept.
    """

    def __init__(
        self, config: TrainingConfig, about: Mapping[str, Any], history: LossHistory
    ) -> None:
        self._config, self._about, self._history = config, about, history

    def on_save_checkpoint(self, trainer: Any, pl_module: Any, checkpoint: dict[str, Any]) -> None:
        """Add the entry.

        Parameters
        ----------
        trainer, pl_module : object
            Given by Lightning.
        checkpoint : dict
            Changed in place.
        """
        checkpoint["ptychostream"] = {
            "config": to_mapping(self._config),
            "intensity_scale": float(self._about["intensity_scale"]),
            "probe_guess": torch.as_tensor(self._about["probe_guess"]),
            "history": {name: list(losses) for name, losses in self._history.losses.items()},
        }
