"""The parts that the Fourier networks share: input, output, and convolutions before it."""

from abc import abstractmethod
from typing import Self

import torch
from torch import Tensor, nn
from torch.nn import functional
from typing_extensions import override

from ptychostream.config import ModelConfig
from ptychostream.errors import ConfigurationError
from ptychostream.models.activations import AMPLITUDE_ACTIVATIONS, phase_activation
from ptychostream.models.generators.base import Generator
from ptychostream.models.generators.first_step import first_step
from ptychostream.models.layers import conv3x3


class FourierGenerator(Generator):
    """Patterns → channels → Fourier layers → residual convolutions → complex patches.

    The inputs are the amplitudes of each pattern, an iterative solver's first step, which
    lies in the object's plane, and the mean transmission of the patch. Subclasses build the
    layers in `fourier_layers`.
    """

    fields = frozenset(
        {
            "fno_modes",
            "fno_width",
            "fno_blocks",
            "fno_cnn_blocks",
            "learned_input_channels",
            "max_hidden_channels",
            "resnet_width",
            "fno_input_transform",
            "generator_output_mode",
            "amp_activation",
        }
    )

    @classmethod
    @override
    def check_config(cls, config: ModelConfig) -> None:
        if 2 * config.fno_modes > config.N:
            raise ConfigurationError(
                f"fno_modes={config.fno_modes} is too many for N={config.N}, which holds "
                f"{config.N // 2} frequencies per axis"
            )

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.check_config(config)
        limit = config.max_hidden_channels
        self.width = _limited(config.fno_width, limit)
        self.transform = config.fno_input_transform
        self.output_mode = config.generator_output_mode
        self.activation = AMPLITUDE_ACTIVATIONS[config.amp_activation]
        patterns, features = config.group_size, config.learned_input_channels
        self.features = (
            nn.Conv2d(patterns, patterns * features, 3, padding=1, groups=patterns)
            if features > 1
            else nn.Identity()
        )
        # Of each pattern, its first step and its level; and the pixels' own coordinates.
        self.lift = conv3x3(patterns * (features + 3) + 2, self.width)
        self.layers = self.fourier_layers(config)
        inner = _limited(config.resnet_width or self.width, limit)
        self.refine = nn.ModuleList(
            ResidualPair(self.width, inner) for _ in range(config.fno_cnn_blocks)
        )
        self.last = nn.Conv2d(self.width, 2 * patterns, 1)
        nn.init.normal_(self.last.weight, std=0.02)
        assert self.last.bias is not None
        nn.init.zeros_(self.last.bias)

    @classmethod
    @override
    def from_config(cls, config: ModelConfig) -> Self:
        return cls(config)

    @abstractmethod
    def fourier_layers(self, config: ModelConfig) -> nn.ModuleList:
        """Make the Fourier layers."""

    @override
    def forward(
        self,
        diffraction: Tensor,
        probe: Tensor,
        coords_relative: Tensor,
        good_pixels: Tensor | None = None,
    ) -> Tensor:
        # The measurement, and the first step in the object's plane: layers that act alike on all
        # pixels hardly learn the transform between the two.
        x = self.features(_transformed(diffraction, self.transform))
        level, change = first_step(diffraction, probe, good_pixels)
        level = level[:, :, None, None]
        # The pixels' coordinates, since the beam lights them differently.
        x = torch.cat(
            (x, change.real, change.imag, level.expand_as(diffraction), _coordinates(x)), dim=1
        )
        x = self.lift(x)
        # Fourier layers for structure of the whole patch, then convolutions for sharp edges.
        for layer in self.layers:
            x = layer(x)
        for pair in self.refine:
            x = pair(x)
        first, second = self.last(x).float().chunk(2, dim=1)
        # The output is a deviation from an empty object at the measured level.
        if self.output_mode == "real_imag":
            return level * torch.complex(1 + first, second)
        if self.output_mode == "amp_phase":
            return torch.polar(level * functional.relu(1 + first), second)
        return torch.polar(self.activation(first), phase_activation(second))


class ResidualPair(nn.Module):
    """Two 3 × 3 convolutions whose result is added to their input."""

    def __init__(self, channels: int, inner: int) -> None:
        super().__init__()
        self.first = conv3x3(channels, inner)
        self.second = conv3x3(inner, channels)

    @override
    def forward(self, x: Tensor) -> Tensor:
        change: Tensor = self.second(functional.gelu(self.first(x)))
        return x + change


def _limited(channels: int, limit: int | None) -> int:
    return channels if limit is None else min(channels, limit)


def _transformed(amplitude: Tensor, name: str) -> Tensor:
    """Compress the range of amplitudes (B, C, N, N): the central beam dominates."""
    if name == "sqrt":
        return amplitude.sqrt()
    if name == "log1p":
        return torch.log1p(amplitude)
    if name == "instancenorm":
        return functional.instance_norm(amplitude)
    return amplitude


def _coordinates(x: Tensor) -> Tensor:
    """Coordinates (B, 2, N, N) of the pixels of x (B, C, N, N), from -1 to 1."""
    rows, columns = x.shape[-2:]
    y = torch.linspace(-1, 1, rows, device=x.device, dtype=x.dtype)
    z = torch.linspace(-1, 1, columns, device=x.device, dtype=x.dtype)
    grid = torch.stack(torch.meshgrid(y, z, indexing="ij"))
    return grid.expand(len(x), -1, -1, -1)
