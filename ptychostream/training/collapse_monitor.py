"""Detect early that a network learns nothing: flat objects, diverging scales, NaN losses."""

import logging
from typing import Any

import lightning
import torch
from tensordict import TensorDict
from torch import Tensor
from typing_extensions import override

from ptychostream.errors import ConfigurationError
from ptychostream.models.pinn import PtychoPINN
from ptychostream.physics import exit_wave, intensity, propagate_far_field

logger = logging.getLogger(__name__)

#: Batches between two checks of the loss; a check makes the host wait for the device.
_EVERY = 25

#: Spread of the object's amplitude, relative to its mean, below which it is flat. The
#: spread of a network that has learnt anything, even noise, is larger.
_FLAT = 1e-3

#: Plausible ratios of predicted to measured power.
_PLAUSIBLE = (0.5, 2.0)

#: Part of a flat object's deviance below which a model has learnt something of the object.
_LEARNT = 0.98

NOT_A_NUMBER = (
    "the training loss is not a finite number; lower the learning rate, or check the data with "
    "`ptychostream info`"
)


@torch.no_grad()
def diagnose(model: PtychoPINN, batch: TensorDict) -> dict[str, float]:
    """Measure the figures by which a collapsed network differs from one that learns.

    Returns `amplitude_spread`: standard deviation over mean of the object's amplitude, where the
        probe lights it. `energy_ratio`: predicted over measured power. `deviance_ratio`: the
        prediction's misfit over that of the best flat object; below one if the network has learnt
        something of the object.
    """
    prediction = model(batch)
    size = model.config.group_size
    patches = prediction.object_patches
    probe = model.scaled_probe(batch["experiment_id"])
    light = intensity(probe)[:, None].expand(patches.shape)
    amplitude = patches.abs()
    mean = (amplitude * light).sum() / light.sum()
    spread = ((amplitude - mean).square() * light).sum() / light.sum()
    good = model.good_pixels[batch["experiment_id"]][:, None].to(amplitude.dtype)
    measured = model.network_input(batch)[:, :size].square() * good
    predicted = prediction.intensity[:, :size] * good
    flat = intensity(propagate_far_field(exit_wave(torch.ones_like(patches), probe[:, None])))
    flat = flat * good
    flat = flat * (measured.sum() / flat.sum())
    ours, least = _misfit(predicted, measured), _misfit(flat, measured)
    return {
        "amplitude_spread": float(spread.sqrt() / mean),
        "energy_ratio": float(predicted.sum() / measured.sum()),
        "deviance_ratio": float(ours / least),
    }


def _misfit(predicted: Tensor, measured: Tensor) -> Tensor:
    """Half the Poisson deviance, approximately: the squared difference of amplitudes."""
    return (predicted.sqrt() - measured.sqrt()).square().sum()


class CollapseWatch(lightning.pytorch.callbacks.Callback):
    """End a run whose loss is not a number, and warn if the network learns nothing.

    `supervised`: whether the loss ignores the diffraction: then only the loss is checked.
    """

    def __init__(self, *, supervised: bool) -> None:
        self._supervised = supervised
        self._batch: TensorDict | None = None
        self._warned: set[str] = set()

    @override
    def on_train_batch_end(
        self, trainer: Any, pl_module: Any, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        self._batch = batch
        if batch_idx % _EVERY == 0 and not pl_module.loss_is_finite():
            raise ConfigurationError(NOT_A_NUMBER)

    @override
    def on_train_epoch_end(self, trainer: Any, pl_module: Any) -> None:
        if not pl_module.loss_is_finite():
            raise ConfigurationError(NOT_A_NUMBER)
        batch, self._batch = self._batch, None
        if self._supervised or batch is None:
            return
        found = diagnose(pl_module.model, batch)
        for name, value in found.items():
            pl_module.log(name, value)
        if trainer.is_global_zero:
            self._warn(trainer.current_epoch + 1, found)

    def _warn(self, epoch: int, found: dict[str, float]) -> None:
        low, high = _PLAUSIBLE
        spread, energy = found["amplitude_spread"], found["energy_ratio"]
        if spread < _FLAT:
            self._say(
                "flat",
                "epoch %d: the object's amplitude is flat (spread %.2g of its mean): the network "
                "has collapsed. Lower --execution.learning_rate, set --gradient_clip_val 1, "
                "take --scheduler WarmupCosine with --lr_warmup_epochs 2, or "
                "--model.architecture unrolled",
                epoch,
                spread,
            )
        elif epoch > 1 and found["deviance_ratio"] > _LEARNT:
            self._say(
                "useless",
                "epoch %d: the prediction fits the patterns no better than an empty object "
                "(misfit ratio %.2f): check probe and positions, or try --probe_trainable true "
                "or --model.architecture unrolled",
                epoch,
                found["deviance_ratio"],
            )
        if epoch > 1 and not low <= energy <= high:
            self._say(
                "scale",
                "epoch %d: predicted patterns have %.2g times the measured energy: the scale runs "
                "away. Lower --execution.learning_rate, or set --intensity_scale_trainable false",
                epoch,
                energy,
            )

    def _say(self, kind: str, message: str, *values: float) -> None:
        if kind not in self._warned:
            self._warned.add(kind)
            logger.warning(message, *values)
