"""Building blocks of the convolutional networks."""

import torch
from torch import Tensor, nn
from torch.nn import functional
from typing_extensions import override


def conv3x3(channels_in: int, channels_out: int) -> nn.Conv2d:
    """Make a 3 × 3 convolution that keeps the size, initialised as PtychoPINN's.

    Weights are Glorot-uniform, biases zero: with PyTorch's own initialisation the network collapses
    to a flat object more often.
    """
    layer = nn.Conv2d(channels_in, channels_out, 3, padding=1)
    nn.init.xavier_uniform_(layer.weight)
    assert layer.bias is not None
    nn.init.zeros_(layer.bias)
    return layer


class ConvPair(nn.Module):
    """Two 3 × 3 convolutions, each with an activation."""

    def __init__(self, channels_in: int, channels_out: int) -> None:
        super().__init__()
        self.first = conv3x3(channels_in, channels_out)
        self.second = conv3x3(channels_out, channels_out)

    @override
    def forward(self, x: Tensor) -> Tensor:
        # In place: a convolution does not need its result for the gradient.
        x = functional.relu(self.first(x), inplace=True)
        return functional.relu(self.second(x), inplace=True)


def upsample(x: Tensor) -> Tensor:
    """Double height and width by repeating pixels.

    `x` (B, C, H, W).
    Returns (B, C, 2H, 2W).
    """
    return functional.interpolate(x, scale_factor=2, mode="nearest")


def border_mask(patch_size: int) -> Tensor:
    """Make a mask that is zero in the central half of a patch and one around it.

    Returns (N, N).
    """
    mask = torch.ones(patch_size, patch_size)
    quarter = patch_size // 4
    mask[quarter : patch_size - quarter, quarter : patch_size - quarter] = 0
    return mask
