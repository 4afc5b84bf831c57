"""Merge the patches of a group as PtychoPINN's TensorFlow model does: for comparisons with it."""

import torch
from torch import Tensor

from ptychostream.patches import extract_patches, place_patches

#: Added to the number of patches on a pixel, as there.
_TINY = 1e-3


def merge_group_upstream(patches: Tensor, coords_relative: Tensor) -> tuple[Tensor, Tensor]:
    """Add patches at their positions, and divide by the number of central halves on a pixel.

    The whole patches are added but only their central halves are counted, so that pixels
    beside those are far too bright, and within them off by what the borders add. `merge` is
    the average that it stands for.

    Parameters
    ----------
    patches : (B, C, N, N) complex64
        One patch per member.
    coords_relative : (B, C, 1, 2) float32
        Centre minus member (x, y), in pixels.

    Returns
    -------
    members : (B, C, N, N) complex64
        Each member's patch of the merged object.
    centred : (B, N, N) complex64
        The merged object around the group's centre.
    """
    edge = patches.shape[-1]
    displacement = -coords_relative[:, :, 0]
    reach = int(displacement.abs().amax().ceil().item()) + 1
    size = edge + 2 * reach
    centres = displacement + size // 2
    quarter = edge // 4
    half = torch.zeros(patches.shape, dtype=patches.real.dtype, device=patches.device)
    half[..., quarter : edge - quarter, quarter : edge - quarter] = 1
    total = place_patches(patches, centres, (size, size))
    cover = place_patches(half, centres, (size, size))
    merged = total / (cover + _TINY)
    members = extract_patches(merged, centres, edge)
    return members, merged[:, reach : edge + reach, reach : edge + reach]
