"""Scale each predicted patch such that it explains its own pattern best, in closed form."""

from tensordict import TensorDict
from torch import Tensor

from ptychostream.models.pinn import PtychoPINN
from ptychostream.models.smoothing import gaussian_smooth
from ptychostream.physics import exit_wave


def rescaled(model: PtychoPINN, patches: Tensor, batch: TensorDict) -> Tensor:
    """Scale patches (B, C, N, N) so that their predicted amplitudes fit the measured ones best.

    A scale is the one free parameter that enters the amplitudes linearly, so that the best is
    known without a search (variable projection).
    """
    probe = model.scaled_probe(batch["experiment_id"])[:, None]
    waves = gaussian_smooth(exit_wave(patches, probe), model.config.gaussian_smoothing_sigma)
    predicted = model.physics.predict(waves).sqrt()
    good = model.good_pixels[batch["experiment_id"]][:, None]
    return patches * best_scale(model.network_input(batch), predicted, good)


def best_scale(measured: Tensor, predicted: Tensor, good_pixels: Tensor) -> Tensor:
    """Find s (..., 1, 1) of least Σ (measured - s · predicted)² over the good pixels (..., N, N).

    The noise of a count's root is the same at any count, so that amplitudes weigh alike. Where
    nothing is predicted or measured, s is one.
    """
    predicted = predicted * good_pixels
    # From the derivative: Σ predicted · (measured - s · predicted) = 0.
    fit = (measured * predicted).sum(dim=(-2, -1), keepdim=True)
    power = predicted.square().sum(dim=(-2, -1), keepdim=True)
    is_known = (fit > 0) & (power > 0)
    return (fit / power.where(is_known, power.new_ones(()))).where(is_known, fit.new_ones(()))
