"""Losses between predicted and measured diffraction, and on the object itself."""

import torch
from torch import Tensor

#: Keeps derivatives finite where the amplitude is zero.
_TINY = 1e-12


def poisson_nll(
    rate: Tensor, counts: Tensor, mask: Tensor | None = None, unit: Tensor | float = 1.0
) -> Tensor:
    """Poisson negative log-likelihood, without its constant term.

    `rate` (..., N, N): predicted photons per pixel.
    `counts` (..., N, N): measured photons per pixel.
    `mask` (..., N, N): True for pixels that count; broadcasts.
    `unit` (..., 1, 1): divisor of each pattern's loss, so that it does not depend on the dose: a
        mean number of photons per pixel.
    Returns the mean over patterns and their pixels that count; least where `rate` equals `counts`.

    References
    ----------
    Thibault & Guizar-Sicairos, New J. Phys. 14 (2012) 063004.
    """
    # The logarithm of a rate of zero is infinite; rates below this are treated as zero photons.
    rate = rate.clamp_min(1e-8)
    return _mean((rate - counts * torch.log(rate)) / unit, mask)


def amplitude_mae(amplitude: Tensor, measured: Tensor, mask: Tensor | None = None) -> Tensor:
    """Mean absolute error of amplitudes.

    `amplitude`, `measured` (..., N, N): predicted and measured amplitude.
    `mask` (..., N, N): True for pixels that count; broadcasts.
    """
    return _mean((amplitude - measured).abs(), mask)


def misfit_sums(amplitude: Tensor, measured: Tensor, mask: Tensor) -> Tensor:
    """Numerator and denominator of R = Σ|measured − amplitude| / Σ measured.

    `amplitude`, `measured` (..., N, N): predicted and measured amplitude.
    `mask` (..., N, N): True for pixels that count; broadcasts.
    """
    return torch.stack((((measured - amplitude).abs() * mask).sum(), (measured * mask).sum()))


def total_variation(images: Tensor) -> Tensor:
    """Squared differences of neighbouring pixels, a prior for smooth objects.

    `images` (..., H, W).
    Returns the sum over both parts and directions, divided by the number of pixels.
    """
    down = images[..., 1:, :] - images[..., :-1, :]
    right = images[..., :, 1:] - images[..., :, :-1]
    total = down.abs().square().sum() + right.abs().square().sum()
    return total / images.numel()


def complex_mae(patches: Tensor, true: Tensor) -> Tensor:
    """Mean absolute error of complex patches.

    `patches`, `true` (..., N, N): predicted and true transmission.
    """
    return (patches - true).abs().mean()


def turned_mae(patches: Tensor, true: Tensor, light: Tensor | float) -> Tensor:
    """Mean absolute error of complex patches, each turned to the phase of the true one.

    Patterns do not determine the global phase of a patch, nor the object where no light falls:
    neither is learned.

    `patches`, `true` (..., N, N): predicted and true transmission.
    `light` (..., N, N): weight of each pixel; broadcasts.
    """
    weight = light / torch.as_tensor(light).mean() * torch.ones_like(patches.real)
    agreement = (weight * patches * true.conj()).sum(dim=(-2, -1), keepdim=True).detach()
    turn = agreement / agreement.abs().clamp_min(_TINY)
    return (weight * (patches - turn * true).abs()).mean()


def amplitude_variation(images: Tensor) -> Tensor:
    """Absolute differences of neighbouring amplitudes, a prior for areas with sharp edges.

    `images` (..., H, W).
    """
    # |z| has no derivative at zero.
    amplitude = (images.real.square() + images.imag.square() + _TINY).sqrt()
    down = (amplitude[..., 1:, :] - amplitude[..., :-1, :]).abs().sum()
    right = (amplitude[..., :, 1:] - amplitude[..., :, :-1]).abs().sum()
    return (down + right) / images.numel()


def phase_variation(images: Tensor) -> Tensor:
    """One minus the cosine of phase differences of neighbours; jumps of 2π do not count.

    `images` (..., H, W).
    Returns the sum over both directions, divided by the number of pixels; half the squared
        difference, in radians, where it is small.
    """
    turned = images / (images.real.square() + images.imag.square() + _TINY).sqrt()
    down = 1 - (turned[..., 1:, :] * turned[..., :-1, :].conj()).real
    right = 1 - (turned[..., :, 1:] * turned[..., :, :-1].conj()).real
    return (down.sum() + right.sum()) / images.numel()


def _mean(values: Tensor, mask: Tensor | None) -> Tensor:
    """Mean over patterns, each with the same weight for any number of good pixels."""
    if mask is None:
        return values.mean()
    weight = mask.expand(values.shape).to(values.dtype)
    inside = (values * weight).sum(dim=(-2, -1)) / weight.sum(dim=(-2, -1)).clamp_min(1)
    return inside.mean()
