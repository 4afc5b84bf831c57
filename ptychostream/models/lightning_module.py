"""Training steps for Lightning: automatic optimisation, losses weighted by the configuration."""

from collections.abc import Callable, Mapping
from typing import Any

import lightning
import torch
from tensordict import TensorDict
from torch import Tensor

from ptychostream.config import PyTorchExecutionConfig, TrainingConfig
from ptychostream.models.losses import amplitude_mae, poisson_nll, total_variation
from ptychostream.models.pinn import Prediction, PtychoPINN
from ptychostream.models.schedule import make_optimizer, make_scheduler

#: Makes the loader of one process, given its rank and the number of processes.
LoaderFactory = Callable[[int, int], Any]


class PinnModule(lightning.LightningModule):
    """Train a `PtychoPINN` on batches of a store.

    Parameters
    ----------
    model : PtychoPINN
        What is trained.
    config : TrainingConfig
        Loss weights, optimiser, schedule.
    execution : PyTorchExecutionConfig
        Learning rate, schedule override, clipping.
    monitor : str
        The logged loss that schedules and checkpoints look at.
    loaders : mapping
        `train` and perhaps `validation`: functions of rank and world size that make the batches
        of one process.
    """

    def __init__(
        self,
        model: PtychoPINN,
        config: TrainingConfig,
        execution: PyTorchExecutionConfig,
        *,
        monitor: str,
        loaders: Mapping[str, LoaderFactory],
    ) -> None:
        super().__init__()
        self.model, self.config, self.execution, self.monitor = model, config, execution, monitor
        self._loaders = loaders
        #: Mean losses of the last finished epoch.
        self.means: dict[str, float] = {}
        self._sums: dict[str, tuple[Tensor, int]] = {}

    def train_dataloader(self) -> Any:
        """Return this process's share of the training groups."""
        return self._loaders["train"](self.trainer.global_rank, self.trainer.world_size)

    def val_dataloader(self) -> Any:
        """Return this process's share of the validation groups, if there are any."""
        if "validation" not in self._loaders:
            return []
        return self._loaders["validation"](self.trainer.global_rank, self.trainer.world_size)

    def training_step(self, batch: TensorDict, batch_idx: int) -> Tensor:
        """Return the loss of a batch.

        Parameters
        ----------
        batch : TensorDict
            As `datasets.batch.ENTRIES` has it.
        batch_idx : int
            Number of the batch.

        Returns
        -------
        () float
            The loss.
        """
        loss = self.loss(self.model(batch), batch)
        self._add("train_loss", loss, len(batch))
        return loss

    def validation_step(self, batch: TensorDict, batch_idx: int) -> None:
        """Take the loss of a batch that is not trained on.

        Parameters
        ----------
        batch : TensorDict
            As `datasets.batch.ENTRIES` has it.
        batch_idx : int
            Number of the batch.
        """
        self._add("val_loss", self.loss(self.model(batch), batch), len(batch))

    def close_epoch(self) -> None:
        """Turn the sums of the epoch into `means`, the same in all processes."""
        self.means = {}
        for name, (total, groups) in sorted(self._sums.items(), reverse=True):
            both = torch.stack((total, total.new_tensor(groups)))
            if self.trainer.world_size > 1:
                both = self.trainer.strategy.reduce(both, reduce_op="sum")
            self.means[name] = float(both[0] / both[1])
        self._sums = {}

    def on_train_epoch_end(self) -> None:
        """Log the epoch's losses, which schedules, checkpoints and loggers look at."""
        for name, value in self.means.items():
            self.log(name, value, prog_bar=True)

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Put the sums of an unfinished epoch into a checkpoint.

        Parameters
        ----------
        checkpoint : dict
            Written by Lightning.
        """
        checkpoint["loss_sums"] = dict(self._sums)

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Go on with the sums of a checkpoint.

        Parameters
        ----------
        checkpoint : dict
            Read by Lightning.
        """
        self._sums = dict(checkpoint["loss_sums"])

    def _add(self, name: str, loss: Tensor, groups: int) -> None:
        """Add up on the device: a number that is looked at would make the host wait for it."""
        total, before = self._sums.get(name, (torch.zeros_like(loss), 0))
        self._sums[name] = (total + loss.detach() * groups, before + groups)

    def loss(self, prediction: Prediction, batch: TensorDict) -> Tensor:
        """Weigh the losses as configured.

        The Poisson term is divided by the mean counts per pixel, so that its size does not
        depend on the dose.

        Parameters
        ----------
        prediction : Prediction
            What the model says.
        batch : TensorDict
            What was measured.

        Returns
        -------
        () float
            The weighted sum.
        """
        share = self.config.overlap_share
        size = self.model.config.group_size
        total = torch.zeros((), device=prediction.intensity.device)
        if share < 1:
            total = total + (1 - share) * self._data_loss(prediction, batch, slice(0, size))
        if share > 0:
            total = total + share * self._data_loss(prediction, batch, slice(size, None))
        if self.config.realspace_weight:
            tv = total_variation(prediction.object_patches)
            total = total + self.config.realspace_weight * tv
        return total

    def _data_loss(self, prediction: Prediction, batch: TensorDict, members: slice) -> Tensor:
        """Compare predicted and measured diffraction of some members of each group."""
        config, edge = self.config, self.model.config.N
        mask = self.model.good_pixels[batch["experiment_id"]][:, None]
        predicted = prediction.intensity[:, members]
        diffraction = batch["diffraction"][:, members]
        to_photons = (batch["physics_scale"] / batch["rms_scale"]).square()
        total = torch.zeros((), device=predicted.device)
        if config.torch_loss_mode == "poisson" and config.nll_weight:
            counts = (diffraction * batch["physics_scale"]).square()
            mean_counts = to_photons.mean() * (edge / 2) ** 2 / edge**2
            nll = poisson_nll(predicted * to_photons, counts, mask)
            total = total + config.nll_weight * nll / mean_counts
        if config.torch_loss_mode == "mae" or config.mae_weight:
            # √ has an infinite slope at zero.
            amplitude = (predicted + 1e-12).sqrt()
            measured = diffraction * batch["rms_scale"]
            if config.torch_mae_pred_l2_match_target:
                energies = (measured.square() * mask).sum((-2, -1), keepdim=True)
                sums = (amplitude.square() * mask).sum((-2, -1), keepdim=True)
                amplitude = amplitude * (energies / sums).sqrt()
            weight = config.mae_weight or 1.0
            total = total + weight * amplitude_mae(amplitude, measured, mask)
        return total

    def configure_optimizers(self) -> Any:
        """Make optimiser and schedule for Lightning.

        Returns
        -------
        optimizer, or dict with optimizer and lr_scheduler
            As Lightning takes them.
        """
        rate = self.execution.learning_rate
        network = [p for p in self.model.generator.parameters() if p.requires_grad]
        groups = [{"params": network}]
        if self.model.log_scale.requires_grad:
            groups.append({"params": [self.model.log_scale]})
        if self.model.probe.parts.requires_grad:
            groups.append({"params": [self.model.probe.parts]})
        optimizer = make_optimizer(self.config, groups, rate)
        steps = self.trainer.estimated_stepping_batches // max(self.config.nepochs, 1)
        scheduler = make_scheduler(
            self.config,
            self.execution.scheduler or self.config.scheduler,
            optimizer,
            steps_per_epoch=int(steps),
            monitor=self.monitor,
        )
        if scheduler is None:
            return optimizer
        return {"optimizer": optimizer, "lr_scheduler": scheduler}

    def transfer_batch_to_device(
        self, batch: Any, device: torch.device, dataloader_idx: int
    ) -> Any:
        """Move a batch; Lightning itself does not know TensorDicts.

        Parameters
        ----------
        batch : TensorDict
            The batch.
        device : torch.device
            Where to.
        dataloader_idx : int
            Not used.

        Returns
        -------
        TensorDict
            The batch on the device.
        """
        return batch.to(device, non_blocking=True)
