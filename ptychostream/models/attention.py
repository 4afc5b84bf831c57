"""Attention of a convolutional block: weights of its channels and of its pixels."""

import torch
from torch import Tensor, nn
from torch.nn import functional
from typing_extensions import override

#: Channels per hidden unit of the channel gate.
_REDUCTION = 16


class BlockAttention(nn.Module):
    """Multiply channels, then pixels, by weights that depend on their mean and maximum.

    Parameters
    ----------
    channels : int
        Channels of the block, at least 16.

    References
    ----------
    Woo, Park, Lee & Kweon, CBAM: Convolutional Block Attention Module, ECCV 2018.
    """

    def __init__(self, channels: int) -> None:
        super().__init__()
        hidden = max(channels // _REDUCTION, 1)
        self.squeeze = nn.Linear(channels, hidden)
        self.expand = nn.Linear(hidden, channels)
        self.pixels = nn.Conv2d(2, 1, 7, padding=3, bias=False)

    @override
    def forward(self, x: Tensor) -> Tensor:
        gate = self._channel_logits(x.mean(dim=(2, 3))) + self._channel_logits(x.amax(dim=(2, 3)))
        x = x * torch.sigmoid(gate)[:, :, None, None]
        summary = torch.cat((x.amax(dim=1, keepdim=True), x.mean(dim=1, keepdim=True)), dim=1)
        return x * torch.sigmoid(self.pixels(summary))

    def _channel_logits(self, x: Tensor) -> Tensor:
        logits: Tensor = self.expand(functional.relu(self.squeeze(x)))
        return logits
