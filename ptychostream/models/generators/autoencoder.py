"""PtychoPINN's convolutional network: an encoder, and two decoders for amplitude and phase."""

import itertools
from collections.abc import Callable
from typing import Self

import torch
from torch import Tensor, nn
from torch.nn import functional
from typing_extensions import override

from ptychostream.config import ModelConfig
from ptychostream.config.model import PATCH_SIZES
from ptychostream.errors import ConfigurationError
from ptychostream.models.activations import AMPLITUDE_ACTIVATIONS, phase_activation
from ptychostream.models.generators.base import Generator
from ptychostream.models.layers import ConvPair, border_mask, conv3x3, upsample
from ptychostream.patches import extract_patches

#: Channels of the encoder's levels in units of n_filters_scale, by patch edge.
ENCODER_CHANNELS = {
    64: (32, 64, 128),
    128: (16, 32, 64, 128),
    256: (8, 16, 32, 64, 128),
}
#: Channels of the decoders' levels, likewise.
DECODER_CHANNELS = {64: (64, 32), 128: (128, 64, 32), 256: (256, 128, 64, 32)}

#: Channels that the decoder sets aside for the outer half of the patch, with `four`.
OUTER_CHANNELS = 4
#: Filters that the outer half has with `outputs`, in units of n_filters_scale.
_PORT_FILTERS = 32


class Autoencoder(Generator):
    """Map diffraction patterns directly to amplitude and phase.

    The physics is in the loss only; probe and positions are not used.

    `config`: `N`, `gridsize` and the fields in `fields` decide the layers.

    References
    ----------
    Hoidn, Mishra & Mehta, Sci. Rep. 13 (2023) 22789.
    """

    fields = frozenset(
        {
            "n_filters_scale",
            "amp_activation",
            "object_big",
            "probe_big",
            "pad_object",
            "cbam_encoder",
            "border_channels",
            "cnn_input",
            "compat",
        }
    )

    @classmethod
    @override
    def check_config(cls, config: ModelConfig) -> None:
        if config.N not in PATCH_SIZES:
            raise ConfigurationError(
                f"the CNN is defined for N = 64, 128 and 256, not {config.N}; crop or pad the "
                "patterns, or use architecture 'unrolled'"
            )

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.check_config(config)
        scale = config.n_filters_scale
        channels = [config.group_size, *(scale * c for c in ENCODER_CHANNELS[config.N])]
        self.encoder = nn.ModuleList(
            ConvPair(before, after) for before, after in itertools.pairwise(channels)
        )
        self.attention = nn.ModuleList(
            BlockAttention(after) if config.cbam_encoder else nn.Identity()
            for after in channels[1:]
        )
        outputs = config.group_size if config.object_big else 1
        self.object_big = config.object_big
        activation = AMPLITUDE_ACTIVATIONS[config.amp_activation]
        self.amplitude = Decoder(config, channels[-1], outputs, activation)
        self.phase = Decoder(config, channels[-1], outputs, phase_activation)

    @classmethod
    @override
    def from_config(cls, config: ModelConfig) -> Self:
        return cls(config)

    @override
    def forward(
        self,
        diffraction: Tensor,
        probe: Tensor,
        coords_relative: Tensor,
        good_pixels: Tensor | None = None,
    ) -> Tensor:
        patches = self.decode(diffraction)
        if self.object_big:
            return patches
        edge = patches.shape[-1]
        return extract_patches(patches[:, 0], edge // 2 - coords_relative[:, :, 0], edge)

    def decode(self, diffraction: Tensor) -> Tensor:
        """Run encoder and decoders.

        `diffraction` (B, C, N, N): measured amplitude, mean power (N/2)².
        Returns (B, C or 1, N, N): one patch per channel of the decoders.
        """
        x = diffraction
        for block, attention in zip(self.encoder, self.attention, strict=True):
            x = functional.max_pool2d(attention(block(x)), 2)
        return torch.polar(self.amplitude(x).float(), self.phase(x).float())


class Decoder(nn.Module):
    """From features at 1/8 of the patch's edge, or less, to one real image per pattern.

    The central half of the patch comes from most channels; its border, which the probe hardly
    lights, from a few.

    `channels_in`: channels of the encoder's last level.
    """

    def __init__(
        self,
        config: ModelConfig,
        channels_in: int,
        channels_out: int,
        activation: Callable[[Tensor], Tensor],
    ) -> None:
        super().__init__()
        scale, edge = config.n_filters_scale, config.N
        channels = [channels_in, *(scale * c for c in DECODER_CHANNELS[edge])]
        self.levels = nn.ModuleList(
            ConvPair(before, after) for before, after in itertools.pairwise(channels)
        )
        self.activation = activation
        self.pad_object, self.probe_big, self.edge = config.pad_object, config.probe_big, edge
        last = channels[-1]
        self.outer_channels = OUTER_CHANNELS
        filters = scale * 2048 // edge
        if config.border_channels == "outputs":
            self.outer_channels, filters = channels_out, scale * _PORT_FILTERS
        if self.pad_object:
            if self.outer_channels >= last:
                raise ConfigurationError(
                    f"border_channels='outputs' sets all {last} channels aside for {channels_out} "
                    "outputs; raise n_filters_scale, or use 'four'"
                )
            self.inner = conv3x3(last - self.outer_channels, channels_out)
            if self.probe_big:
                self.outer = ConvPair(self.outer_channels, filters)
                self.outer_last = conv3x3(filters, channels_out)
                self.border: Tensor
                self.register_buffer("border", border_mask(edge), persistent=False)
        else:
            self.full = ConvPair(last, last)
            self.full_last = conv3x3(last, channels_out)

    @override
    def forward(self, x: Tensor) -> Tensor:
        for level in self.levels:
            x = upsample(level(x))
        if not self.pad_object:
            full: Tensor = self.activation(self.full_last(upsample(self.full(x))))
            return full
        quarter = self.edge // 4
        centre = self.activation(self.inner(x[:, : -self.outer_channels]))
        image = functional.pad(centre, (quarter,) * 4)
        if self.probe_big:
            outer = self.outer_last(upsample(self.outer(x[:, -self.outer_channels :])))
            image = image + functional.silu(outer) * self.border
        return image


#: Channels per hidden unit of the channel gate.
_REDUCTION = 16


class BlockAttention(nn.Module):
    """Multiply channels, then pixels, by weights that depend on their mean and maximum.

    `channels`: channels of the block, at least 16.

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
