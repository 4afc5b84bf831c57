"""Labels: patches of known objects, cut where a batch was measured, on the batch's device."""

from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from tensordict import TensorDict
from torch import Tensor, nn
from typing_extensions import override

from ptychostream.patches import extract_patches


class TruePatches(nn.Module):
    """Cut the true patches of a batch.

    `objects`: the object of each experiment, in the model's unit.
    """

    def __init__(self, objects: Sequence[NDArray[np.complex64]], patch_size: int) -> None:
        super().__init__()
        # One tall canvas, with room between objects: a batch may come from several of them.
        width = max(obj.shape[1] for obj in objects)
        rows = [obj.shape[0] + 2 * patch_size for obj in objects]
        canvas = np.zeros((sum(rows), width), np.complex64)
        first = np.cumsum([0, *rows[:-1]])
        for row, obj in zip(first, objects, strict=True):
            canvas[row : row + obj.shape[0], : obj.shape[1]] = obj
        self.canvas: Tensor
        self.first: Tensor
        self.register_buffer("canvas", torch.as_tensor(canvas), persistent=False)
        self.register_buffer("first", torch.as_tensor(first), persistent=False)
        self._patch_size = patch_size

    @override
    def forward(self, batch: TensorDict, group_size: int) -> Tensor:
        positions = (batch["coords_offsets"] - batch["coords_relative"])[:, :group_size, 0]
        down = self.first[batch["experiment_id"]].to(positions.dtype)
        positions = torch.stack((positions[..., 0], positions[..., 1] + down[:, None]), dim=-1)
        patches = extract_patches(self.canvas, positions.flatten(0, 1), self._patch_size)
        return patches.reshape(*positions.shape[:2], *patches.shape[1:])
