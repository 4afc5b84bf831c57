"""Losses between predicted and measured diffraction, and on the object itself."""

import torch
from torch import Tensor


def poisson_nll(rate: Tensor, counts: Tensor, mask: Tensor | None = None) -> Tensor:
    """Poisson negative log-likelihood, without its constant term.

    Parameters
    ----------
    rate : (..., N, N) float
        Predicted photons per pixel.
    counts : (..., N, N) float
        Measured photons per pixel.
    mask : (..., N, N) bool, optional
        True for pixels that count; broadcasts.

    Returns
    -------
    () float
        Mean over pixels; least where `rate` equals `counts`.

    References
    ----------
    Thibault & Guizar-Sicairos, New J. Phys. 14 (2012) 063004.
    """
    # A rate of zero would make the logarithm infinite: rates below this are all "no photon".
    rate = rate.clamp_min(1e-8)
    return _mean(rate - counts * torch.log(rate), mask)


def amplitude_mae(amplitude: Tensor, measured: Tensor, mask: Tensor | None = None) -> Tensor:
    """Mean absolute error of amplitudes.

    Parameters
    ----------
    amplitude, measured : (..., N, N) float
        Predicted and measured amplitude.
    mask : (..., N, N) bool, optional
        True for pixels that count; broadcasts.

    Returns
    -------
    () float
        Mean over pixels.
    """
    return _mean((amplitude - measured).abs(), mask)


def total_variation(images: Tensor) -> Tensor:
    """Squared differences of neighbouring pixels, a prior for smooth objects.

    Parameters
    ----------
    images : (..., H, W) complex
        Object patches.

    Returns
    -------
    () float
        Sum over real and imaginary part of both directions, divided by the number of pixels.
    """
    down = images[..., 1:, :] - images[..., :-1, :]
    right = images[..., :, 1:] - images[..., :, :-1]
    total = down.abs().square().sum() + right.abs().square().sum()
    return total / images.numel()


def _mean(values: Tensor, mask: Tensor | None) -> Tensor:
    if mask is None:
        return values.mean()
    weight = mask.expand(values.shape).to(values.dtype)
    return (values * weight).sum() / weight.sum().clamp_min(1)
