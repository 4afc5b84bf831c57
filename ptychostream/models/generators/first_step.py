"""The first step of an iterative solver from an empty object, as an input for networks."""

import torch
from torch import Tensor

from ptychostream.physics import intensity, wave_change

#: If a smaller part of the light falls on good pixels, the measured power does not give the level.
_LEAST_SHARE = 0.05

#: Regularises detector pixels that an empty object hardly lights, and dark object pixels.
_DISTRUST, _REGULARISATION = 0.2, 0.5

#: Keeps divisions finite where both sides are zero.
_TINY = 1e-12


def first_step(
    diffraction: Tensor, probe: Tensor, good_pixels: Tensor | None
) -> tuple[Tensor, Tensor]:
    """Take one step of an iterative solver from an empty object.

    `diffraction` (B, C, N, N): measured amplitude, zero frequency at pixel (N/2, N/2).
    `probe` (B, P, N, N): illumination of each group.
    `good_pixels` (B, N, N): False at bad pixels; None if there are none.
    Returns `level` (B, C): the object's mean amplitude, from the measured energy.
    Returns `change` (B, C, N, N): what the amplitudes ask of an object of one, in units of that
        level.
    """
    light, beam = intensity(probe), probe[:, None]
    measured, known, share = measured_part(diffraction, beam, good_pixels)
    # An empty object of this amplitude gives the measured power.
    seen_light = light.sum(dim=(-2, -1)) * share
    energies = measured.square().sum(dim=(-2, -1)) / seen_light[:, None]
    level = energies.clamp_min(_TINY).sqrt()
    measured = measured / level[:, :, None, None]
    empty = torch.ones_like(measured, dtype=beam.dtype)
    return level, object_step(empty, measured, known, beam, light)


def object_step(
    patches: Tensor, measured: Tensor, known: Tensor | None, beam: Tensor, light: Tensor
) -> Tensor:
    """Find the change of patches (B, C, N, N) that measured amplitudes ask for, each by itself.

    `measured` and `known` are those of `measured_part`, `beam` is (B, 1, P, N, N), and `light`
    (B, N, N) its intensity.
    """
    change = beam.conj() * wave_change(beam * patches[:, :, None], measured, known, _DISTRUST)
    # From the wave to the object: the least-squares step, held back where there is little light.
    brightest = light.amax(dim=(-2, -1), keepdim=True)
    damping = _REGULARISATION * brightest + (1 - _REGULARISATION) * light
    return change.sum(dim=2) / damping[:, None]


def measured_part(
    diffraction: Tensor, beam: Tensor, good_pixels: Tensor | None
) -> tuple[Tensor, Tensor | None, Tensor | float]:
    """Move the zero frequency to the corner, and set bad pixels to zero.

    `diffraction` (B, C, N, N): measured amplitude, zero frequency at pixel (N/2, N/2).
    `beam` (B, C or 1, P, N, N): illumination of each pattern.
    Returns `measured` (B, C, N, N): zero where nothing was measured.
    Returns `known` (B, 1, N, N): one where something was measured; None where it was everywhere.
    Returns `share` (B,): part of a flat object's diffraction that is measured, at least a
        twentieth.
    """
    measured = torch.fft.ifftshift(diffraction, dim=(-2, -1))
    if good_pixels is None:
        return measured, None, 1.0
    known = torch.fft.ifftshift(good_pixels, dim=(-2, -1))[:, None].to(measured.dtype)
    spread = intensity(torch.fft.fft2(beam, norm="ortho"))
    share = (spread * known).sum(dim=(1, 2, 3)) / spread.sum(dim=(1, 2, 3))
    return measured * known, known, share.clamp_min(_LEAST_SHARE)
