"""The disk that limits the illumination."""

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.ndimage import gaussian_filter
from torch import Tensor

from ptychostream.config import ModelConfig


def mask_of(config: ModelConfig) -> Tensor:
    """Make a configuration's mask (N, N): one inside a disk, zero outside, a smooth edge."""
    disk = _disk(config.N, config.probe_mask_diameter)
    if config.probe_mask_sigma:
        disk = gaussian_filter(disk, config.probe_mask_sigma, truncate=3.0)
    return torch.as_tensor(disk).float()


def hard_disk(patch_size: int) -> Tensor:
    """Make a disk (N, N) of diameter N/2 without a soft edge: one inside, zero outside."""
    return torch.from_numpy(_disk(patch_size, None)).float()


def _disk(patch_size: int, diameter: float | None) -> NDArray[np.float64]:
    along = np.arange(patch_size) - patch_size / 2 + 0.5
    radius = np.hypot(along[:, None], along)
    return (radius < (diameter or patch_size / 2) / 2).astype(np.float64)
