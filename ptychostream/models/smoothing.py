"""Gaussian smoothing of complex images."""

import torch
from torch import Tensor
from torch.nn import functional


def gaussian_smooth(images: Tensor, sigma: float) -> Tensor:
    """Smooth complex images with a separable Gaussian of 3 × 3 taps, reflected at the edges.

    `images` (..., N, N).
    Returns (..., N, N).
    """
    if sigma == 0:
        return images
    taps = torch.exp(-0.5 * (torch.arange(-1, 2, device=images.device) / sigma) ** 2)
    taps = taps / taps.sum()
    parts = torch.view_as_real(images).movedim(-1, 0)
    flat = parts.reshape(-1, 1, *images.shape[-2:])
    flat = functional.pad(flat, (1, 1, 1, 1), mode="reflect")
    flat = functional.conv2d(functional.conv2d(flat, taps.view(1, 1, 3, 1)), taps.view(1, 1, 1, 3))
    smooth = flat.reshape(parts.shape)
    return torch.complex(smooth[0], smooth[1])
