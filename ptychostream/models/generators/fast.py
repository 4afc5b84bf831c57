"""A small network for live pictures: one step of the physics, a few convolutions, one step more."""

import math
from typing import Self

import torch
from torch import Tensor, nn
from torch.nn import functional
from typing_extensions import override

from ptychostream.config import ModelConfig
from ptychostream.models.generators.base import Generator
from ptychostream.models.generators.first_step import measured_part, object_step
from ptychostream.physics import intensity

#: Edge of the blocks of pixels that are a channel each: convolutions on a coarse grid see far.
_BLOCK = 4

#: Brings the object's deviations from one to the order of one.
_CONTRAST = 4.0

#: Illumination, relative to the brightest pixel, below which corrections fade out.
_DARK = 1e-2


class Fast(Generator):
    """A patch with a few Fourier transforms and four small convolutions.

    From an empty object, one data-consistency step brings the amplitudes into the object's
    plane; convolutions on a grid of 4 x 4 pixels add what training has learned of objects; a
    second step brings the result back to the data. Untrained, it is two steps of the solver.
    Each pattern is seen by itself, so that its patch needs no neighbours.
    """

    fields = frozenset({"fast_width"})

    def __init__(self, *, width: int) -> None:
        super().__init__()
        # Real and imaginary part of the change, and the light, of 4 x 4 pixels each.
        self.first = nn.Conv2d(3 * _BLOCK**2, width, 3, padding=1)
        self.hidden = nn.ModuleList(nn.Conv2d(width, width, 3, padding=1) for _ in range(2))
        self.last = nn.Conv2d(width, 2 * _BLOCK**2, 3, padding=1)
        nn.init.zeros_(self.last.weight)
        assert self.last.bias is not None
        nn.init.zeros_(self.last.bias)
        self.log_step_lengths = nn.Parameter(torch.full((2,), math.log(1.0)))

    @classmethod
    @override
    def from_config(cls, config: ModelConfig) -> Self:
        return cls(width=config.fast_width)

    @override
    def forward(
        self,
        diffraction: Tensor,
        probe: Tensor,
        coords_relative: Tensor,
        good_pixels: Tensor | None = None,
    ) -> Tensor:
        light, beam = intensity(probe), probe[:, None]
        measured, known, share = measured_part(diffraction, beam, good_pixels)
        energies = measured.square().sum(dim=(-2, -1))
        level = (energies / (light.sum(dim=(-2, -1)) * share)[:, None]).clamp_min(1e-12).sqrt()
        level = level[..., None, None]
        measured = measured / level
        first, second = self.log_step_lengths.exp()
        # From an empty object at the measured level, as a solver begins.
        patch = torch.ones_like(measured, dtype=beam.dtype)
        patch = patch + first * object_step(patch, measured, known, beam, light)
        patch = patch + self._correction(patch, light)
        # What was learned may contradict the data: a second step asks them again.
        patch = patch + second * object_step(patch, measured, known, beam, light)
        return level * patch

    def _correction(self, patch: Tensor, light: Tensor) -> Tensor:
        """Return what convolutions add to patches (B, C, N, N), each by itself."""
        relative = (light / light.amax(dim=(-2, -1), keepdim=True))[:, None].expand(patch.shape)
        images = torch.stack(
            (
                _CONTRAST * (patch.real - 1),
                _CONTRAST * patch.imag,
                relative.clamp_min(0).sqrt().detach(),
            ),
            dim=2,
        ).flatten(0, 1)
        edge = images.shape[-1]
        # An edge that is no multiple of four is filled up, and cut off again.
        images = functional.pad(images, (0, -edge % _BLOCK, 0, -edge % _BLOCK))
        x = functional.pixel_unshuffle(images, _BLOCK)
        x = functional.silu(self.first(x), inplace=False)
        for layer in self.hidden:
            x = x + functional.silu(layer(x))
        change = functional.pixel_shuffle(self.last(x).float(), _BLOCK)[..., :edge, :edge]
        change = change.reshape(*patch.shape[:2], 2, edge, edge) / _CONTRAST
        trust = relative / (relative + _DARK)
        return torch.complex(change[:, :, 0], change[:, :, 1]) * trust
