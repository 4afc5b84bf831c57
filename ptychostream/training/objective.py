"""The weighted sum of losses of a configuration."""

import torch
from tensordict import TensorDict
from torch import Tensor

from ptychostream.config import TrainingConfig
from ptychostream.models.pinn import Prediction
from ptychostream.training.losses import (
    amplitude_mae,
    amplitude_variation,
    complex_mae,
    phase_variation,
    poisson_nll,
    total_variation,
    turned_mae,
)


def objective(
    config: TrainingConfig,
    prediction: Prediction,
    batch: TensorDict,
    good_pixels: Tensor,
    *,
    physics_weight: float = 1.0,
    true_patches: Tensor | None = None,
    light: Tensor | float = 1.0,
) -> Tensor:
    """Return the losses of a batch, weighted as configured.

    The Poisson term is divided by the experiment's mean counts per pixel, so that its size does
    not depend on the dose.

    `good_pixels` (E, N, N): True for the detector's pixels that count.
    `physics_weight`: from 0, the amplitude error alone, to 1, the configured sum.
    `true_patches` (B, C, N, N): labels in the model's unit, where the configuration needs them.
    `light` (B, 1, N, N): intensity of the probes, for labels that hold only where light falls.
    """
    patches = prediction.object_patches
    total = torch.zeros((), device=patches.device)
    supervised = config.model.model_type == "supervised"
    if not supervised:
        share, size = config.overlap_share, config.model.group_size
        for weight, members in ((1 - share, slice(0, size)), (share, slice(size, None))):
            if weight:
                data = _diffraction(config, prediction, batch, good_pixels, members, physics_weight)
                total = total + weight * data
    if needs_labels(config):
        assert true_patches is not None
        weight = config.realspace_mae_weight or 1.0
        if config.targets == "solver":
            total = total + weight * turned_mae(patches, true_patches, light)
        else:
            total = total + weight * complex_mae(patches, true_patches)
    regularisers = (
        (config.realspace_weight, total_variation),
        (config.amplitude_variation_weight, amplitude_variation),
        (config.phase_variation_weight, phase_variation),
    )
    for weight, term in regularisers:
        if weight:
            total = total + weight * term(patches)
    return total


def needs_labels(config: TrainingConfig) -> bool:
    """Return whether a configuration compares with a true object."""
    is_supervised = config.model.model_type == "supervised"
    return is_supervised or config.realspace_mae_weight > 0 or config.targets == "solver"


def _diffraction(
    config: TrainingConfig,
    prediction: Prediction,
    batch: TensorDict,
    good_pixels: Tensor,
    members: slice,
    physics_weight: float,
) -> Tensor:
    """Compare predicted and measured diffraction of some members of each group."""
    edge = config.model.N
    mask = good_pixels[batch["experiment_id"]][:, None]
    predicted = prediction.intensity[:, members]
    diffraction = batch["diffraction"][:, members]
    total = torch.zeros((), device=predicted.device)
    if config.torch_loss_mode == "poisson" and config.nll_weight and physics_weight:
        to_photons = (batch["physics_scale"] / batch["rms_scale"]).square()
        counts = (diffraction * batch["physics_scale"]).square()
        unit = to_photons * ((edge / 2) ** 2 / edge**2)
        nll = poisson_nll(predicted * to_photons, counts, mask, unit)
        total = total + physics_weight * config.nll_weight * nll
    mae_weight = config.mae_weight
    if config.torch_loss_mode == "mae":
        mae_weight = mae_weight or 1.0
    mae_weight = physics_weight * mae_weight + (1 - physics_weight)
    if mae_weight:
        # The derivative of √ at zero is infinite.
        amplitude = (predicted + 1e-12).sqrt()
        measured = diffraction * batch["rms_scale"]
        if config.torch_mae_pred_l2_match_target:
            energies = (measured.square() * mask).sum((-2, -1), keepdim=True)
            sums = (amplitude.square() * mask).sum((-2, -1), keepdim=True)
            # Separately: the root of the ratio has no derivative for a dark pattern.
            tiny = torch.finfo(sums.dtype).tiny
            amplitude = amplitude * (energies.sqrt() / sums.clamp_min(tiny).sqrt())
        total = total + mae_weight * amplitude_mae(amplitude, measured, mask)
    return total
