"""Factorised Fourier neural operator: one axis at a time, with residual connections."""

import math

import torch
from torch import Tensor, nn
from torch.nn import functional
from typing_extensions import override

from ptychostream.config import ModelConfig
from ptychostream.models.generators.fourier_network import FourierGenerator


class FactorizedFourierNetwork(FourierGenerator):
    """A network of factorised Fourier layers, from patterns to complex patches.

    All layers share the matrices that act on frequencies, so they are few.

    References
    ----------
    Tran et al., Factorized Fourier Neural Operators, ICLR 2023.
    """

    @override
    def fourier_layers(self, config: ModelConfig) -> nn.ModuleList:
        kernel = AxisKernel(self.width, config.fno_modes)
        hidden = min(2 * self.width, config.max_hidden_channels or 2 * self.width)
        return nn.ModuleList(
            FactorizedLayer(kernel, self.width, hidden) for _ in range(config.fno_blocks)
        )


class AxisKernel(nn.Module):
    """Multiply the low frequencies along each axis by matrices, and add the results."""

    def __init__(self, channels: int, modes: int) -> None:
        super().__init__()
        self.modes = modes
        # For rows and columns; real and imaginary part.
        shape = (2, channels, channels, modes, 2)
        self.weight = nn.Parameter(torch.randn(shape) / math.sqrt(2 * channels))

    @override
    def forward(self, v: Tensor) -> Tensor:
        weight = torch.view_as_complex(self.weight)
        return self._along(v.float(), weight[0], -1) + self._along(v.float(), weight[1], -2)

    def _along(self, v: Tensor, weight: Tensor, axis: int) -> Tensor:
        edge = v.shape[axis]
        spectrum = torch.fft.rfft(v, dim=axis, norm="ortho")
        low = spectrum.narrow(axis, 0, self.modes)
        rule = "bixy,ioy->boxy" if axis == -1 else "bixy,iox->boxy"
        # The inverse transform treats missing frequencies as zero.
        return torch.fft.irfft(torch.einsum(rule, low, weight), n=edge, dim=axis, norm="ortho")


class FactorizedLayer(nn.Module):
    """v + W₂ σ(W₁ K v), with the kernel K (Tran et al., eq. 6)."""

    def __init__(self, kernel: AxisKernel, channels: int, hidden: int) -> None:
        super().__init__()
        self.kernel = kernel
        self.first = nn.Conv2d(channels, hidden, 1)
        self.second = nn.Conv2d(hidden, channels, 1)

    @override
    def forward(self, v: Tensor) -> Tensor:
        change: Tensor = self.second(functional.gelu(self.first(self.kernel(v))))
        return v + change
