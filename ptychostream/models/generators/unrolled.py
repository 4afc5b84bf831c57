"""Iterative phase retrieval, unrolled: data-consistency steps with learned corrections.

Before any training the network is the plain iteration: the corrections' last layers start at
zero. It knows the probe, and for groups it solves for all members on one canvas, so that
overlap enters the network itself and not only the loss.
"""

import math

import torch
from torch import Tensor, nn
from torch.nn import functional

from ptychostream.config import ModelConfig
from ptychostream.models.generators.base import Generator
from ptychostream.models.generators.group_canvas import GroupCanvas
from ptychostream.physics import fourier_shift, intensity

#: Data-consistency updates in front of each learned correction.
UPDATES_PER_STEP = 3

#: First values of the learned numbers: step length, regularisation, momentum.
_STEP_LENGTH, _REGULARISATION, _MOMENTUM = 1.0, 0.1, 0.7

#: Illumination, relative to the brightest pixel, below which corrections fade out.
_DARK = 0.01

#: Brings the object's deviations from one to the order of one.
_CONTRAST = 4.0


class Unrolled(Generator):
    """Data-consistency steps, each followed by a small learned correction.

    One update of the canvas o, for members with probe P and measured amplitude a:
    ψ = P·o, Ψ = F ψ, o ← o + β · Σ P*·F⁻¹(a Ψ/|Ψ| - Ψ) / ((1 - α) Σ|P|² + α max Σ|P|²),
    with momentum. The sums run over members and incoherent modes; β, α and the momentum are
    learned.

    Parameters
    ----------
    steps : int
        Steps, each of `UPDATES_PER_STEP` updates and a correction.
    width : int
        Channels of the corrections.
    memory : int
        Channels that a correction passes on to the next.

    References
    ----------
    Maiden, Johnson & Li, Optica 4 (2017) 736 (regularised iteration with momentum).
    """

    merges_groups = True

    def __init__(self, *, steps: int = 5, width: int = 32, memory: int = 8) -> None:
        super().__init__()
        numbers = (steps, UPDATES_PER_STEP)
        self.log_step_length = nn.Parameter(torch.full(numbers, math.log(_STEP_LENGTH)))
        logit = math.log(_REGULARISATION / (1 - _REGULARISATION))
        self.regularisation = nn.Parameter(torch.full(numbers, logit))
        self.momentum = nn.Parameter(torch.full(numbers, _MOMENTUM))
        self.corrections = nn.ModuleList(Correction(width, memory) for _ in range(steps))

    @classmethod
    def from_config(cls, config: ModelConfig) -> "Unrolled":
        """Build the network that a configuration describes."""
        return cls(steps=config.unrolled_steps, width=config.unrolled_width)

    def forward(self, diffraction: Tensor, probe: Tensor, coords_relative: Tensor) -> Tensor:
        """Reconstruct object patches; see `Generator.forward`.

        Parameters
        ----------
        diffraction : (B, C, N, N) float32
            Measured amplitude, zero frequency centred.
        probe : (B, P, N, N) complex64
            Illumination of each group.
        coords_relative : (B, C, 1, 2) float32
            Centre minus member (x, y), in pixels.

        Returns
        -------
        (B, C, N, N) complex64
            Object patches.
        """
        group = GroupCanvas(coords_relative, diffraction.shape[-1])
        # Work with a probe of peak one and an object of mean amplitude one.
        peak = intensity(probe).amax(dim=(-2, -1)).sqrt()[:, None, None, None]
        beam = (probe / peak)[:, None]
        if diffraction.shape[1] > 1:
            beam = fourier_shift(beam, group.fractions[:, :, None])
        measured = torch.fft.ifftshift(diffraction, dim=(-2, -1))[:, :, None] / peak[:, None]
        light = intensity(beam).expand(diffraction.shape)
        energies = measured.square().sum(dim=(1, 2, 3, 4)) / light.sum(dim=(1, 2, 3))
        level = energies.sqrt()[:, None, None]
        measured = measured / level[..., None, None]

        illumination = group.add(light.contiguous())
        brightest = illumination.amax(dim=(-2, -1), keepdim=True)
        # A hint for the corrections only: its square root has no slope in the dark.
        relative_light = (illumination / brightest).detach()
        canvas = torch.ones_like(illumination).to(beam.dtype)
        velocity = torch.zeros_like(canvas)
        memory: Tensor | None = None
        for step, correction in enumerate(self.corrections):
            gradient = velocity
            for update in range(UPDATES_PER_STEP):
                alpha = torch.sigmoid(self.regularisation[step, update])
                beta = self.log_step_length[step, update].exp()
                gradient = _data_gradient(canvas, measured, beam, group)
                gradient = gradient * (
                    beta / (alpha * brightest + (1 - alpha) * illumination)
                )
                velocity = gradient + self.momentum[step, update] * velocity
                canvas = canvas + velocity
            change, memory = correction(canvas, gradient, relative_light, memory)
            canvas = canvas + change
        patches = group.cut(canvas * level)
        if diffraction.shape[1] > 1:
            patches = fourier_shift(patches, -group.fractions)
        return patches


def _data_gradient(canvas: Tensor, measured: Tensor, beam: Tensor, group: GroupCanvas) -> Tensor:
    """Difference that the measured amplitudes (B, C, 1, N, N) make to the canvas (B, S, S)."""
    spectrum = torch.fft.fft2(beam * group.cut(canvas)[:, :, None], norm="ortho")
    modulus2 = intensity(spectrum)[:, :, None]
    excess = measured * torch.rsqrt(modulus2 + 1e-12) - 1
    difference = torch.fft.ifft2(excess * spectrum, norm="ortho")
    return group.add((beam.conj() * difference).sum(dim=2))


class Correction(nn.Module):
    """A few convolutions at half resolution that improve a canvas.

    Parameters
    ----------
    width : int
        Channels.
    memory : int
        Channels passed on to the next correction.
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
            nn.Conv2d(before, after, 3, padding=1)
            for before, after in zip(channels, channels[1:], strict=False)
        )
        self.last = nn.Conv2d(width, self._OUTPUTS + memory, 3, padding=1)
        with torch.no_grad():
            self.last.weight[: self._OUTPUTS].zero_()
            assert self.last.bias is not None
            self.last.bias.zero_()

    def forward(
        self, canvas: Tensor, gradient: Tensor, light: Tensor, memory: Tensor | None
    ) -> tuple[Tensor, Tensor]:
        """Propose a change of the canvas.

        Parameters
        ----------
        canvas, gradient : (B, S, S) complex64
            Object of mean amplitude one, and its last data-consistency update.
        light : (B, S, S) float32
            Illumination relative to the brightest pixel.
        memory : (B, memory, S/2, S/2) float32, optional
            From the previous correction.

        Returns
        -------
        change : (B, S, S) complex64
            To be added; fades out where there is no light.
        memory : (B, memory, S/2, S/2) float32
            For the next correction.
        """
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
        x = torch.cat((x, memory), dim=1)
        for layer in self.hidden:
            y = functional.silu(layer(x))
            x = x + y if x.shape == y.shape else y
        x = self.last(x)
        parts = functional.pixel_shuffle(0.1 * x[:, : self._OUTPUTS], 2)
        trust = light / (light + _DARK)
        return torch.complex(parts[:, 0], parts[:, 1]) * trust, x[:, self._OUTPUTS :]
