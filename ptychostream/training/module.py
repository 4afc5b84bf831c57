"""Training steps for Lightning: automatic optimisation, losses weighted by the configuration."""

import math
from collections.abc import Callable, Mapping
from functools import cached_property
from typing import Any

import lightning
import torch
from tensordict import TensorDict
from torch import Tensor
from typing_extensions import override

from ptychostream.config import PyTorchExecutionConfig, TrainingConfig
from ptychostream.models.canvas_size import CanvasSize
from ptychostream.models.pinn import PtychoPINN
from ptychostream.physics import intensity
from ptychostream.training.checkpoints import check_same_run
from ptychostream.training.labels import TruePatches
from ptychostream.training.losses import misfit_sums
from ptychostream.training.objective import objective
from ptychostream.training.optimizer import (
    clip_by_weights,
    learning_rate_curve,
    make_optimizer,
    make_plateau,
)
from ptychostream.training.stages import learning_rate_factor, physics_weight

#: Makes the loader of one process, given its rank, the number of processes, and its device.
LoaderFactory = Callable[[int, int, torch.device], Any]


class PinnModule(lightning.LightningModule):
    """Train a `PtychoPINN` on batches of a store.

    `monitor`: the logged loss that schedules and checkpoints use.
    `loaders`: `train` and perhaps `validation`: functions of rank and world size that make the
        batches of one process.
    `labels`: the true patches of the same, where the losses need them.
    `run`: description of the run for its checkpoints; from `describe_run`.
    """

    def __init__(
        self,
        model: PtychoPINN,
        config: TrainingConfig,
        execution: PyTorchExecutionConfig,
        *,
        monitor: str,
        loaders: Mapping[str, LoaderFactory],
        labels: Mapping[str, TruePatches] | None = None,
        run: dict[str, Any] | None = None,
    ) -> None:
        super().__init__()
        self.model, self.config, self.execution, self.monitor = model, config, execution, monitor
        self._loaders, self._run = loaders, run or {}
        # A module dictionary cannot have an entry `train`: modules have a method of that name.
        self.labels = torch.nn.ModuleDict({f"of_{n}": each for n, each in (labels or {}).items()})
        self._resumed_plateau: dict[str, Any] | None = None
        self._plateau: torch.optim.lr_scheduler.ReduceLROnPlateau | None = None
        #: Mean losses of the last finished epoch.
        self.means: dict[str, float] = {}
        self._sums: dict[str, tuple[Tensor, int]] = {}
        #: R of the last finished epoch; None where nothing is compared with patterns.
        self.misfit: float | None = None
        self._misfit_sums: Tensor | None = None
        #: Steps done before the checkpoint; None without one.
        self.steps_before: int | None = None
        self._canvas_sizes: dict[str, CanvasSize] = {}
        self._bad_pixels: dict[str, Any] = {}

    @cached_property
    def _train_loader(self) -> Any:
        return self._serve("train")

    @override
    def train_dataloader(self) -> Any:
        return self._train_loader

    @override
    def val_dataloader(self) -> Any:
        if "validation" not in self._loaders:
            return []
        return self._serve("validation")

    def _serve(self, part: str) -> Any:
        trainer = self.trainer
        device = trainer.strategy.root_device
        loader = self._loaders[part](trainer.global_rank, trainer.world_size, device)
        # Measured once: in each step the host would wait for the device.
        members = self.model.config.group_size
        support = self.model.probe.support_half_width(members)
        self._canvas_sizes[part] = CanvasSize(loader.reach(members), support)
        self._bad_pixels[part] = loader.bad_pixels
        return loader

    @override
    def training_step(self, batch: TensorDict, batch_idx: int) -> Tensor:
        weight = physics_weight(self.config, self.current_epoch)
        loss = self._loss("train", batch, weight)
        self._add("train_loss", loss, len(batch))
        processes = self.trainer.world_size
        if processes > 1:
            # Gradients are averaged over processes, whose last batches may differ in length.
            total = self._train_loader.batch_totals[batch_idx]
            loss = loss * (len(batch) * processes / total)
        return loss

    @override
    def validation_step(self, batch: TensorDict, batch_idx: int) -> None:
        self._add("val_loss", self._loss("validation", batch), len(batch))

    @override
    def on_validation_epoch_start(self) -> None:
        self.model.flag(self._bad_pixels["validation"])

    @override
    def on_validation_epoch_end(self) -> None:
        self.model.flag(self._bad_pixels["train"])

    def _loss(self, part: str, batch: TensorDict, weight: float = 1.0) -> Tensor:
        prediction = self.model(batch, self._canvas_sizes.get(part))
        if part == "train" and self.config.model.model_type != "supervised":
            self._add_misfit(prediction.intensity.detach(), batch)
        true = None
        if f"of_{part}" in self.labels:
            true = self.labels[f"of_{part}"](batch, self.model.config.group_size)
        return objective(
            self.config,
            prediction,
            batch,
            self.model.good_pixels,
            physics_weight=weight,
            true_patches=true,
            light=1.0 if true is None else self._light(batch),
        )

    def _light(self, batch: TensorDict) -> Tensor:
        """Return the intensity (B, 1, N, N) of the probes, without a gradient through it."""
        return intensity(self.model.scaled_probe(batch["experiment_id"])).detach()[:, None]

    def close_epoch(self) -> None:
        """Turn the sums of the epoch into `means`, the same in all processes."""
        self.means = {}
        for name, (total, groups) in sorted(self._sums.items()):
            both = torch.stack((total, total.new_tensor(groups)))
            if self.trainer.world_size > 1:
                both = self.trainer.strategy.reduce(both, reduce_op="sum")
            self.means[name] = float(both[0] / both[1])
        self._sums = {}
        sums, self._misfit_sums, self.misfit = self._misfit_sums, None, None
        if sums is not None:
            if self.trainer.world_size > 1:
                sums = self.trainer.strategy.reduce(sums, reduce_op="sum")
            self.misfit = float(sums[0] / sums[1])

    def _add_misfit(self, predicted: Tensor, batch: TensorDict) -> None:
        """Add up the R of a batch, on the device; predicted are intensities (B, C, N, N)."""
        mask = self.model.good_pixels[batch["experiment_id"]][:, None]
        measured = batch["diffraction"] * batch["rms_scale"]
        sums = misfit_sums(predicted.sqrt(), measured[:, : predicted.shape[1]], mask)
        self._misfit_sums = sums if self._misfit_sums is None else self._misfit_sums + sums

    def loss_is_finite(self) -> bool:
        """Return whether all losses of this epoch are finite in all processes; the host waits."""
        finite = all(bool(torch.isfinite(total)) for total, _ in self._sums.values())
        finite = finite and all(map(math.isfinite, self.means.values()))
        if self.trainer.world_size > 1:
            finite = bool(self.trainer.strategy.reduce_boolean_decision(finite, all=True))
        return finite

    @override
    def on_train_epoch_end(self) -> None:
        for name, value in self.means.items():
            self.log(name, value, prog_bar=True)
        self.log("learning_rate", self.trainer.optimizers[0].param_groups[0]["lr"])
        if self._plateau is not None:
            self._plateau.step(self.means[self.monitor])

    @override
    def on_train_epoch_start(self) -> None:
        if self._plateau is None:
            return
        epoch = self.current_epoch
        now = learning_rate_factor(self.config, epoch)
        before = learning_rate_factor(self.config, epoch - 1) if epoch else 1.0
        for group in self.trainer.optimizers[0].param_groups:
            group["lr"] *= now / before

    @override
    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        checkpoint["run"] = self._run
        checkpoint["loss_sums"] = dict(self._sums)
        if self._plateau is not None:
            checkpoint["plateau"] = self._plateau.state_dict()

    @override
    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        check_same_run(self._run, checkpoint, self.config.nepochs)
        self.steps_before = int(checkpoint["global_step"])
        self._sums = dict(checkpoint["loss_sums"])
        self._resumed_plateau = checkpoint.get("plateau")

    def _add(self, name: str, loss: Tensor, groups: int) -> None:
        """Add up on the device: reading a number would make the host wait for it."""
        total, before = self._sums.get(name, (torch.zeros_like(loss), 0))
        self._sums[name] = (total + loss.detach() * groups, before + groups)

    @override
    def configure_optimizers(self) -> Any:
        network = [p for p in self.model.generator.parameters() if p.requires_grad]
        groups = [{"params": network}]
        if self.model.log_scale.requires_grad:
            groups.append({"params": [self.model.log_scale]})
        if self.model.probe.parts.requires_grad:
            groups.append({"params": [self.model.probe.parts]})
        optimizer = make_optimizer(self.config, groups, self.execution.learning_rate)
        name = self.execution.scheduler or self.config.scheduler
        if name == "ReduceLROnPlateau":
            # Not stepped by Lightning, which writes its checkpoints before.
            self._plateau = make_plateau(self.config, optimizer)
            if self._resumed_plateau is not None:
                self._plateau.load_state_dict(self._resumed_plateau)
            return optimizer
        # Lightning's own estimate would start the loaders before the checkpoint is restored.
        steps = math.ceil(len(self._train_loader) / self.execution.accum_steps)
        curve = learning_rate_curve(self.config, name, max(steps, 1))
        schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, curve)
        return {
            "optimizer": optimizer,
            "lr_scheduler": {"scheduler": schedule, "interval": "step"},
        }

    @override
    def configure_gradient_clipping(
        self,
        optimizer: torch.optim.Optimizer,
        gradient_clip_val: float | None = None,
        gradient_clip_algorithm: str | None = None,
    ) -> None:
        limit = self.execution.gradient_clip_val or self.config.gradient_clip_val
        if limit is None:
            return
        algorithm = self.execution.gradient_clip_algorithm or self.config.gradient_clip_algorithm
        if algorithm == "agc":
            clip_by_weights(self.parameters(), limit)
        else:
            self.clip_gradients(
                optimizer, gradient_clip_val=limit, gradient_clip_algorithm=algorithm
            )

    @override
    def transfer_batch_to_device(
        self, batch: Any, device: torch.device, dataloader_idx: int
    ) -> Any:
        if self.execution.pin_memory and batch["diffraction"].device.type == "cpu":
            batch = batch.pin_memory()
        return batch.to(device, non_blocking=True)
