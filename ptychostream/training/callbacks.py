"""At the end of an epoch: keep the losses, log and report them; write checkpoints' data."""

import logging
import time
from collections.abc import Mapping
from typing import Any

import lightning
import torch
from typing_extensions import override

from ptychostream.config import TrainingConfig, to_mapping
from ptychostream.training.progress import EpochReport, OnEpoch

logger = logging.getLogger(__name__)


class EpochReports(lightning.pytorch.callbacks.Callback):
    """Keep the losses of each epoch, log them with the speed, and tell the host program.

    `on_epoch`: called after each epoch, in the first process.
    `losses`: `train_loss`, and `val_loss` with validation: one number per epoch.
    """

    def __init__(self, nepochs: int, group_size: int, on_epoch: OnEpoch | None = None) -> None:
        self.losses: dict[str, list[float]] = {"train_loss": []}
        self._nepochs, self._group_size, self._on_epoch = nepochs, group_size, on_epoch
        self._began = 0.0
        self._groups = 0

    @override
    def on_train_start(self, trainer: Any, pl_module: Any) -> None:
        self._began, self._groups = time.perf_counter(), 0

    @override
    def on_train_epoch_start(self, trainer: Any, pl_module: Any) -> None:
        self._began, self._groups = time.perf_counter(), 0

    @override
    def on_train_batch_end(
        self, trainer: Any, pl_module: Any, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        self._groups += len(batch)

    @override
    def on_train_epoch_end(self, trainer: Any, pl_module: Any) -> None:
        pl_module.close_epoch()
        for name, value in pl_module.means.items():
            self.losses.setdefault(name, []).append(value)
        seconds = max(time.perf_counter() - self._began, 1e-9)
        report = EpochReport(
            epoch=trainer.current_epoch + 1,
            nepochs=self._nepochs,
            train_loss=pl_module.means["train_loss"],
            val_loss=pl_module.means.get("val_loss"),
            learning_rate=trainer.optimizers[0].param_groups[0]["lr"],
            seconds=seconds,
            patterns_per_second=self._groups * self._group_size * trainer.world_size / seconds,
            misfit=pl_module.misfit,
        )
        if not trainer.is_global_zero:
            return
        shown = dict(pl_module.means)
        if report.misfit is not None:
            shown["misfit R"] = report.misfit
        logger.info(
            "epoch %d of %d: %s (%.1f s, %.0f patterns/s)",
            report.epoch,
            report.nepochs,
            ", ".join(f"{name} {value:.5g}" for name, value in shown.items()),
            report.seconds,
            report.patterns_per_second,
        )
        if self._on_epoch is not None:
            self._on_epoch(report)

    @override
    def state_dict(self) -> dict[str, Any]:
        return {"losses": {name: list(values) for name, values in self.losses.items()}}

    @override
    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        self.losses = {name: list(values) for name, values in state_dict["losses"].items()}


class Description(lightning.pytorch.callbacks.Callback):
    """Write what inference needs into each checkpoint, as plain data and tensors.

    `about`: `intensity_scale` and `probe_guess`, as a `ModelBundle` has them.
    """

    def __init__(self, config: TrainingConfig, about: Mapping[str, Any]) -> None:
        self._config, self._about = config, about

    @override
    def on_save_checkpoint(self, trainer: Any, pl_module: Any, checkpoint: dict[str, Any]) -> None:
        reports = next(each for each in trainer.callbacks if isinstance(each, EpochReports))
        checkpoint["ptychostream"] = {
            "config": to_mapping(self._config),
            "intensity_scale": float(self._about["intensity_scale"]),
            "probe_guess": torch.as_tensor(self._about["probe_guess"]),
            "history": {name: list(losses) for name, losses in reports.losses.items()},
        }
