"""Reassemble patches as PtychoPINN does: central windows, on a canvas around their mean."""

import numpy as np
import torch
from numpy.typing import NDArray

from ptychostream.errors import ConfigurationError
from ptychostream.geometry import ObjectGrid
from ptychostream.stitching.accumulator import PatchAccumulator
from ptychostream.stitching.weights import patch_weight

#: Windows placed at once.
_BLOCK = 256


def reassemble_position(
    patches: NDArray[np.complex64], global_offsets: NDArray[np.float64], M: int = 20
) -> NDArray[np.complex64]:
    """Add up the central windows of patches, and divide by how many overlap.

    `patches` (B, N, N, 1): one patch per position.
    `global_offsets` (B, 1, 2, 1): positions (x, y), in pixels.
    `M`: edge of the central window, in pixels; even, and no more than N.
    Returns (P, P, 1): the object; canvas pixel (P/2, P/2) is the mean position. P is M and twice
        the largest distance from it along an axis, rounded up to an even number.
    """
    edge = patches.shape[1]
    if not 2 <= M <= edge or M % 2:
        raise ConfigurationError(f"M={M} must be an even number of pixels in 2 … {edge}")
    offsets = np.asarray(global_offsets, dtype=np.float32).reshape(len(patches), 2)
    offsets = offsets - offsets.mean(axis=0)
    margin = int(np.ceil(np.abs(offsets).max()))
    margin += margin % 2
    size = M + 2 * margin
    positions = offsets.astype(np.float64) + size // 2
    weight = patch_weight("uniform", torch.ones(edge, edge), window=M, fades=False)
    accumulator = PatchAccumulator(ObjectGrid(size, size), weight, placement="bilinear")
    for start in range(0, len(patches), _BLOCK):
        block = torch.as_tensor(np.ascontiguousarray(patches[start : start + _BLOCK, ..., 0]))
        accumulator.add(block.to(torch.complex64), positions[start : start + _BLOCK])
    total, cover = accumulator.sums()
    return np.asarray((total / (cover + np.float32(1e-9)))[..., None])
