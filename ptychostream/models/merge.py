"""Merge the patches of a group where they overlap, and cut them out again."""

import torch
from torch import Tensor

from ptychostream.models.canvas_size import canvas_reach
from ptychostream.patches import extract_patches, place_patches

#: Weight of unlit pixels relative to the brightest: they are merged too, with a small weight.
_FLOOR = 1e-3


def merge_group(
    patches: Tensor, coords_relative: Tensor, weight: Tensor, reach: int | None = None
) -> Tensor:
    """Make the patches of each group consistent with one object.

    Patches are placed at their positions, averaged with weights, and cut out again. The average
    is divided by the sum of the weights on a pixel, so that nothing is amplified.

    `patches` (B, C, N, N): one patch per member.
    `coords_relative` (B, C, 1, 2): mean minus member (x, y), in pixels.
    `weight` (B, N, N) or (B, C, N, N): trust in each patch pixel; the probe's intensity is the
        usual choice.
    `reach`: pixels by which no member lies farther from its group's centre; None measures it, for
        which the host waits for the device.
    Returns (B, C, N, N): the patches of the merged object, at the same positions.
    """
    if patches.shape[1] == 1:
        return patches
    edge = patches.shape[-1]
    displacement = -coords_relative[:, :, 0]
    reach = canvas_reach(displacement) if reach is None else reach
    size = edge + 2 * (reach + 1)
    centres = displacement + size // 2
    if weight.ndim == 3:
        peak = weight.amax(dim=(-2, -1), keepdim=True)
        weight = (weight / peak + _FLOOR)[:, None]
    # The mean of all patches on a pixel, by their light: Σ w·patch / Σ w.
    trust = weight.expand(patches.shape)
    total = place_patches(patches * trust, centres, (size, size))
    cover = place_patches(trust.contiguous(), centres, (size, size))
    merged = total / cover.clamp_min(torch.finfo(cover.dtype).tiny)
    # Outside the union the average is 0 / tiny = 0.
    return extract_patches(merged, centres, edge)
