"""Fourier neural operator: layers that multiply the low frequencies of features by matrices."""

import math

import torch
from torch import Tensor, nn
from torch.nn import functional
from typing_extensions import override

from ptychostream.config import ModelConfig
from ptychostream.models.generators.fourier_network import FourierGenerator


class FourierNetwork(FourierGenerator):
    """A network of Fourier layers, from patterns to complex patches.

    References
    ----------
    Li et al., Fourier Neural Operator for Parametric Partial Differential Equations, ICLR 2021.
    """

    @override
    def fourier_layers(self, config: ModelConfig) -> nn.ModuleList:
        return nn.ModuleList(
            FourierLayer(self.width, config.fno_modes, activate=number + 1 < config.fno_blocks)
            for number in range(config.fno_blocks)
        )


class FourierLayer(nn.Module):
    """σ(W v + F⁻¹(R · F v)), where R is zero above the kept frequencies (Li et al., eq. 2 to 5).

    `modes`: frequencies kept per axis, of either sign along the rows.
    `activate`: whether σ is GELU, or the identity.
    """

    def __init__(self, channels: int, modes: int, *, activate: bool) -> None:
        super().__init__()
        self.modes, self.activate = modes, activate
        # Real and imaginary part: optimisers and archives support real numbers best.
        shape = (2, channels, channels, modes, modes, 2)
        self.weight = nn.Parameter(torch.randn(shape) / (channels * math.sqrt(2)))
        self.pointwise = nn.Conv2d(channels, channels, 1)

    @override
    def forward(self, v: Tensor) -> Tensor:
        modes, edge = self.modes, v.shape[-1]
        spectrum = torch.fft.rfft2(v.float(), norm="ortho")
        weight = torch.view_as_complex(self.weight)
        kept = [
            torch.einsum("bixy,ioxy->boxy", spectrum[:, :, rows, :modes], part)
            for rows, part in zip((slice(0, modes), slice(-modes, None)), weight, strict=True)
        ]
        gap = spectrum.new_zeros(*v.shape[:2], edge - 2 * modes, modes)
        low = torch.cat((kept[0], gap, kept[1]), dim=2)
        low = functional.pad(low, (0, spectrum.shape[-1] - modes))
        smooth = torch.fft.irfft2(low, s=(edge, edge), norm="ortho")
        total: Tensor = self.pointwise(v) + smooth
        return functional.gelu(total) if self.activate else total
