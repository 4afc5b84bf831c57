"""Iterative phase retrieval, unrolled: data-consistency steps with learned corrections.

Before any training the network is the plain iteration: the corrections' last layers start at
zero. It knows the probe, and for groups it solves for all members on one canvas, so that
overlap enters the network itself and not only the loss.
"""

import itertools
import math
from typing import Self

import torch
from torch import Tensor, nn
from torch.nn import functional
from typing_extensions import override

from ptychostream.config import ModelConfig
from ptychostream.models.canvas_size import CanvasSize, measure_canvas_size
from ptychostream.models.generators.base import Generator
from ptychostream.models.generators.first_step import measured_part
from ptychostream.models.generators.group_canvas import GroupCanvas
from ptychostream.physics import fourier_shift, intensity, wave_change

#: Data-consistency updates before each learned correction: for single patterns, for groups.
UPDATES_ALONE, UPDATES_IN_GROUPS = 2, 3

#: Initial values of the learned numbers.
_STEP_LENGTH, _REGULARISATION, _MOMENTUM, _DISTRUST = 1.0, 0.1, 0.7, 0.2

#: Illumination, relative to the brightest pixel, below which corrections fade out.
_DARK = 1e-2

#: Scales the object's deviations from one to the order of one.
_CONTRAST = 4.0

#: Keeps divisions finite where both sides are zero; far below one photon.
_TINY = 1e-12


class Unrolled(Generator):
    """Data-consistency updates, with a small learned correction after every few.

    One update of a group's canvas O, for members with probe P and measured amplitude a:
    Ψ = F(P·O); v ← μ v + β Σ P*·F⁻¹(t·(a/|Ψ| - 1)·Ψ) / (α max Σ|P|² + (1 - α) Σ|P|²);
    O ← O + v. The sums run over members and incoherent modes. The trust
    t = |Ψ|² / (|Ψ|² + τ a²) holds back pixels that the model does not light yet: their phase
    is rounding noise, which the measured amplitude would blow up. α, β, μ and τ are learned,
    for each update.

    `memory`: channels that a correction passes on to the next.

    References
    ----------
    Maiden, Johnson & Li, Optica 4 (2017) 736 (regularised iteration with momentum).
    """

    merges_groups = True
    takes_canvas_size = True
    fields = frozenset({"unrolled_steps", "unrolled_width"})

    def __init__(
        self, *, group_size: int = 1, steps: int = 5, width: int = 32, memory: int = 8
    ) -> None:
        super().__init__()
        self.updates = UPDATES_ALONE if group_size == 1 else UPDATES_IN_GROUPS
        numbers = (steps, self.updates)
        self.log_step_length = nn.Parameter(torch.full(numbers, math.log(_STEP_LENGTH)))
        self.logit_regularisation = nn.Parameter(torch.full(numbers, _logit(_REGULARISATION)))
        self.logit_momentum = nn.Parameter(torch.full(numbers, _logit(_MOMENTUM)))
        self.log_distrust = nn.Parameter(torch.full(numbers, math.log(_DISTRUST)))
        self.corrections = nn.ModuleList(Correction(width, memory) for _ in range(steps))

    @classmethod
    @override
    def from_config(cls, config: ModelConfig) -> Self:
        return cls(
            group_size=config.group_size,
            steps=config.unrolled_steps,
            width=config.unrolled_width,
        )

    @override
    def forward(
        self,
        diffraction: Tensor,
        probe: Tensor,
        coords_relative: Tensor,
        good_pixels: Tensor | None = None,
        canvas_size: CanvasSize | None = None,
    ) -> Tensor:
        edge, members = diffraction.shape[-1], diffraction.shape[1]
        if canvas_size is None:
            canvas_size = measure_canvas_size(coords_relative, intensity(probe))
        group = GroupCanvas(coords_relative, edge, canvas_size.reach)
        lit = _window(canvas_size.support, group)
        # A probe of peak one and an object of mean amplitude one: what is learned then holds at
        # any dose and for any probe.
        peak = intensity(probe).amax(dim=(-2, -1)).sqrt()[:, None, None, None]
        beam = (probe / peak)[:, None]
        if members > 1:
            # Patches lie at whole pixels of the canvas; the probe is shifted by the fraction.
            beam = fourier_shift(beam, group.fractions[:, :, None])
        light = intensity(beam).expand(diffraction.shape)
        measured, known, share = measured_part(diffraction, beam, good_pixels)
        measured = measured / peak
        energies = measured.square().sum(dim=(1, 2, 3)) / (light.sum(dim=(1, 2, 3)) * share)
        level = energies.clamp_min(_TINY).sqrt()[:, None, None]
        measured = measured / level[..., None]

        # The light on each pixel of the canvas limits the step there.
        illumination = group.add(light.contiguous())
        brightest = illumination.amax(dim=(-2, -1), keepdim=True)
        # A hint for the corrections only: its square root has no slope in the dark.
        hint = (illumination / brightest).detach()
        # Start from an empty object.
        canvas = torch.ones_like(illumination).to(beam.dtype)
        velocity = torch.zeros_like(canvas)
        memory: Tensor | None = None
        for step, correction in enumerate(self.corrections):
            pull = velocity
            for update in range(self.updates):
                alpha = torch.sigmoid(self.logit_regularisation[step, update])
                distrust = self.log_distrust[step, update].exp()
                # The change towards the measured amplitudes: the gradient of their misfit.
                pull = _pull(canvas, measured, known, beam, group, distrust)
                # A Newton step where there is light; α limits the step in dark pixels.
                pull = pull * (
                    self.log_step_length[step, update].exp()
                    / (alpha * brightest + (1 - alpha) * illumination)
                )
                # With momentum, slow and smooth errors need fewer steps.
                velocity = pull + torch.sigmoid(self.logit_momentum[step, update]) * velocity
                canvas = canvas + velocity
            # What the data leave open (noise, what overlaps little) is for the network to mend,
            # where there is light at all: the rest of the canvas would cost time for nothing.
            seen = (part[:, lit, lit] for part in (canvas, pull, hint))
            change, memory = correction(*seen, memory)
            canvas = canvas + functional.pad(change, (lit.start, group.size - lit.stop) * 2)
        # Back to the measured level, and each patch to its member's exact position.
        patches = group.cut(canvas * level)
        if members > 1:
            patches = fourier_shift(patches, -group.fractions)
        return patches


def _pull(
    canvas: Tensor,
    measured: Tensor,
    known: Tensor | None,
    beam: Tensor,
    group: GroupCanvas,
    distrust: Tensor,
) -> Tensor:
    """Change of the canvas (B, S, S) towards the measured amplitudes (B, C, N, N)."""
    change = wave_change(beam * group.cut(canvas)[:, :, None], measured, known, distrust)
    waves = beam.conj() * change
    return group.add(waves[:, :, 0] if waves.shape[2] == 1 else waves.sum(dim=2))


def _window(half: int, group: GroupCanvas) -> slice:
    """Return the middle of the canvas, a multiple of four pixels, that holds all lit pixels."""
    middle = group.size // 2
    half = min(2 * math.ceil((half + group.reach) / 2), middle)
    return slice(middle - half, middle + half)


def _logit(probability: float) -> float:
    return math.log(probability / (1 - probability))


class Correction(nn.Module):
    """A few convolutions at half resolution that improve a canvas.

    `memory`: channels passed on to the next correction.
    """

    #: Real and imaginary part of canvas and gradient, and the illumination; of 2 × 2 pixels.
    _INPUTS = 5 * 4
    #: Real and imaginary part of the change, of 2 × 2 pixels.
    _OUTPUTS = 2 * 4

    def __init__(self, width: int, memory: int) -> None:
        super().__init__()
        self.memory = memory
        channels = (self._INPUTS + memory, width, width, width)
        self.hidden = nn.ModuleList(
            nn.Conv2d(before, after, 3, padding=1) for before, after in itertools.pairwise(channels)
        )
        self.last = nn.Conv2d(width, self._OUTPUTS + memory, 3, padding=1)
        with torch.no_grad():
            self.last.weight[: self._OUTPUTS].zero_()
            assert self.last.bias is not None
            self.last.bias.zero_()
        self.to(memory_format=torch.channels_last)  # type: ignore[call-overload, unused-ignore]

    @override
    def forward(
        self, canvas: Tensor, gradient: Tensor, light: Tensor, memory: Tensor | None
    ) -> tuple[Tensor, Tensor]:
        images = torch.stack(
            (
                _CONTRAST * (canvas.real - 1),
                _CONTRAST * canvas.imag,
                _CONTRAST * gradient.real,
                _CONTRAST * gradient.imag,
                light.clamp_min(0).sqrt(),
            ),
            dim=1,
        )
        x = functional.pixel_unshuffle(images, 2)
        if memory is None:
            memory = x.new_zeros(len(x), self.memory, *x.shape[-2:])
        # With channels last, convolutions of few channels are about twice as fast.
        x = torch.cat((x, memory), dim=1).contiguous(memory_format=torch.channels_last)
        for layer in self.hidden:
            y = functional.silu(layer(x))
            x = x + y if x.shape == y.shape else y
        x = self.last(x)
        parts = functional.pixel_shuffle(0.1 * x[:, : self._OUTPUTS], 2)
        trust = light / (light + _DARK)
        return torch.complex(parts[:, 0], parts[:, 1]) * trust, x[:, self._OUTPUTS :]
