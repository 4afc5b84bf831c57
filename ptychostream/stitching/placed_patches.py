"""Patches on whole pixels, of which only the phases are missing."""

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor


@dataclass(frozen=True, eq=False)
class PlacedPatches:
    """Weighted patches of groups, on whole pixels; only the phase of each group is missing.

    `blocks` (K, ..., h, w): where members of a group overlap they are added up, so that there is
        one block for each.
    `corners` (K, 2): row and column of each block's first pixel.
    `groups` (K,): the group, among those that were placed together, that a block belongs to.
    `is_even` (K,): whether it belongs to the first half.
    """

    blocks: Tensor
    corners: NDArray[np.int64]
    groups: NDArray[np.int64]
    is_even: NDArray[np.bool_]


def merge_blocks(
    blocks: Tensor, corners: NDArray[np.int64], is_even: NDArray[np.bool_]
) -> PlacedPatches:
    """Add the blocks of each group (B, C, ..., h, w) up, on the smallest block that holds them."""
    groups, members = blocks.shape[:2]
    first = corners.min(axis=1)
    inside = corners - first[:, None]
    rows, columns = (int(n) + blocks.shape[-1] for n in inside.max(axis=(0, 1)))
    owners = np.arange(groups)
    if rows * columns > members * blocks.shape[-1] ** 2:
        # The block of members that lie far apart would be mostly zeros.
        owners = owners.repeat(members)
        return PlacedPatches(blocks.flatten(0, 1), corners.reshape(-1, 2), owners, is_even[owners])
    parts, edge = blocks.numpy(), blocks.shape[-1]
    merged = np.zeros((groups, *parts.shape[2:-2], rows, columns), parts.dtype)
    for group, places in enumerate(inside.tolist()):
        for member, (top, left) in enumerate(places):
            merged[group, ..., top : top + edge, left : left + edge] += parts[group, member]
    return PlacedPatches(torch.from_numpy(merged), first, owners, is_even)
