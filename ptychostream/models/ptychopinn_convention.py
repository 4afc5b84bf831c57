"""PtychoPINN's merge and exit waves on our network, to compare predictions number by number."""

import torch
from torch import Tensor

from ptychostream.models.generators.autoencoder import Autoencoder
from ptychostream.models.pinn import PtychoPINN
from ptychostream.models.ptychopinn import merge_group
from ptychostream.models.smoothing import gaussian_smooth
from ptychostream.physics import exit_wave


def reconstruct_as_ptychopinn(
    model: PtychoPINN, diffraction: Tensor, coords_relative: Tensor, canvas: int
) -> tuple[Tensor, Tensor]:
    """Reconstruct and merge the patches of each group as PtychoPINN does.

    `diffraction` (B, C, N, N): amplitude, scaled to a mean power of (N/2)².
    `coords_relative` (B, C, 1, 2): mean minus member (x, y), in pixels.
    `canvas`: edge of PtychoPINN's canvas, in pixels.
    Returns `members` (B, C, N, N): each member's patch of the merged object.
    Returns `centred` (B, N, N): the merged object around the group's centre.
    """
    patches = model.reconstruct(diffraction, coords_relative)
    generator = model.generator
    if isinstance(generator, Autoencoder) and not generator.object_big:
        # There is one patch per group, from which the members are cut: nothing is merged.
        first = torch.zeros(len(diffraction), dtype=torch.int64, device=diffraction.device)
        return patches, generator.decode(model.generator_input(diffraction, first))[:, 0]
    return merge_group(patches, coords_relative, canvas)


def waves_as_ptychopinn(model: PtychoPINN, patches: Tensor) -> Tensor:
    """Compute exit waves as PtychoPINN does: smoothed first, then masked.

    `patches` (B, C, N, N).
    Returns (B, C, P, N, N).
    """
    probe = torch.view_as_complex(model.probe.parts)[:1, None] * model.scale
    waves = gaussian_smooth(exit_wave(patches, probe), model.config.gaussian_smoothing_sigma)
    return waves if model.probe.mask is None else waves * model.probe.mask
