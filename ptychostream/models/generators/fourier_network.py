"""What the Fourier networks share: the way in, the way out, and convolutions before it."""

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
from ptychostream.models.generators.data_consistency import known_share, wave_change
from ptychostream.models.layers import conv3x3
from ptychostream.physics import intensity

#: Of the first step: trust in pixels that the empty object hardly lights, and in dark places.
_DISTRUST, _REGULARISATION = 0.2, 0.5

#: Keeps divisions finite where there is nothing.
_TINY = 1e-12


class FourierGenerator(Generator):
    """Patterns → channels → Fourier layers → residual convolutions → complex patches.

    What the network sees of each pattern are its amplitudes, and an iterative solver's first
    step, which brings them into the object's plane, and the mean transmission that they tell:
    convolutions alone hardly learn that transform. The layers' own part is made by
    `fourier_layers`.

    Raises
    ------
    ConfigurationError
        If N holds fewer frequencies than `fno_modes`.
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

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        if 2 * config.fno_modes > config.N:
            raise ConfigurationError(
                f"fno_modes={config.fno_modes} is too many for N={config.N}, which holds "
                f"{config.N // 2} frequencies per axis"
            )
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
        x = self.features(_transformed(diffraction, self.transform))
        level, change = _first_step(diffraction, probe, good_pixels)
        level = level[:, :, None, None]
        x = torch.cat(
            (x, change.real, change.imag, level.expand_as(diffraction), _coordinates(x)), dim=1
        )
        x = self.lift(x)
        for layer in self.layers:
            x = layer(x)
        for pair in self.refine:
            x = pair(x)
        first, second = self.last(x).float().chunk(2, dim=1)
        if self.output_mode == "real_imag":
            return level * torch.complex(1 + first, second)
        if self.output_mode == "amp_phase":
            return torch.polar(level * functional.relu(1 + first), second)
        return torch.polar(self.activation(first), phase_activation(second))


class ResidualPair(nn.Module):
    """Two 3 × 3 convolutions whose result is added to what came in."""

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
    """Flatten the range of amplitudes (B, C, N, N), which a bright centre rules."""
    if name == "sqrt":
        return amplitude.sqrt()
    if name == "log1p":
        return torch.log1p(amplitude)
    if name == "instancenorm":
        return functional.instance_norm(amplitude)
    return amplitude


def _first_step(
    diffraction: Tensor, probe: Tensor, good_pixels: Tensor | None
) -> tuple[Tensor, Tensor]:
    """Find what amplitudes say of an empty object.

    Its mean amplitude (B, C), and, with that as the unit, the change (B, C, N, N) of one step.
    """
    light, beam = intensity(probe), probe[:, None]
    measured = torch.fft.ifftshift(diffraction, dim=(-2, -1))
    seen_light, known = light.sum(dim=(-2, -1)), None
    if good_pixels is not None:
        known = torch.fft.ifftshift(good_pixels, dim=(-2, -1))[:, None].to(light.dtype)
        measured = measured * known
        seen_light = seen_light * known_share(beam, known)
    energies = measured.square().sum(dim=(-2, -1)) / seen_light[:, None]
    level = energies.clamp_min(_TINY).sqrt()
    measured = (measured / level[:, :, None, None])[:, :, None]
    waves = beam.expand(-1, diffraction.shape[1], -1, -1, -1)
    change = (beam.conj() * wave_change(waves, measured, known, _DISTRUST)).sum(dim=2)
    brightest = light.amax(dim=(-2, -1), keepdim=True)
    return level, change / (_REGULARISATION * brightest + (1 - _REGULARISATION) * light)[:, None]


def _coordinates(x: Tensor) -> Tensor:
    """Coordinates (B, 2, N, N) of the pixels of x (B, C, N, N), from -1 to 1."""
    rows, columns = x.shape[-2:]
    y = torch.linspace(-1, 1, rows, device=x.device, dtype=x.dtype)
    z = torch.linspace(-1, 1, columns, device=x.device, dtype=x.dtype)
    grid = torch.stack(torch.meshgrid(y, z, indexing="ij"))
    return grid.expand(len(x), -1, -1, -1)
