"""One small canvas per group, on which its members' patches overlap at whole pixels."""

import torch
from torch import Tensor


class GroupCanvas:
    """The geometry of a group: where each member's patch lies on the group's own canvas.

    Members lie at whole pixels; the probe is shifted by the fraction of a pixel that remains.
    Cutting and adding are then plain indexing, and nothing is blurred.

    `coords_relative` (B, C, 1, 2): mean minus member (x, y), in pixels.
    `reach`: pixels by which no member lies farther from its group's centre.
    `reach`: pixels by which the canvas is larger than a patch, on each side.
    `fractions` (B, C, 2): what rounding left of the members' displacement (x, y), in [-0.5, 0.5].
    """

    def __init__(self, coords_relative: Tensor, patch_size: int, reach: int) -> None:
        displacement = -coords_relative[:, :, 0]
        whole = displacement.round()
        self.fractions = displacement - whole
        self._groups, self._members = displacement.shape[:2]
        self._patch_size = patch_size
        if self._members == 1:
            # A single member lies at its group's mean position: canvas and patch are the same.
            self.size, self.reach = patch_size, 0
            self._index: Tensor | None = None
            return
        reach += reach % 2
        self.size, self.reach = patch_size + 2 * reach, reach
        corner = whole.to(torch.int64) + reach
        span = torch.arange(patch_size, device=whole.device)
        rows = corner[..., 1, None] + span
        columns = corner[..., 0, None] + span
        first = torch.arange(self._groups, device=whole.device)[:, None, None, None] * self.size
        index = (first + rows[..., :, None]) * self.size + columns[..., None, :]
        self._index = index.reshape(-1)

    def cut(self, canvas: Tensor) -> Tensor:
        """Cut each member's patch out of its group's canvas.

        `canvas` (B, S, S): one canvas per group.
        Returns (B, C, N, N): patches at whole pixels.
        """
        shape = (self._groups, self._members, self._patch_size, self._patch_size)
        if self._index is None:
            return canvas.reshape(shape)
        parts = torch.view_as_real(canvas).reshape(-1, 2).index_select(0, self._index)
        return torch.view_as_complex(parts).reshape(shape)

    def add(self, patches: Tensor) -> Tensor:
        """Add each member's patch into its group's canvas; the adjoint of `cut`.

        `patches` (B, C, N, N): patches at whole pixels.
        Returns (B, S, S).
        """
        shape = (self._groups, self.size, self.size)
        if self._index is None:
            return patches.reshape(shape)
        pixels = self._groups * self.size**2
        if not patches.is_complex():
            flat = patches.new_zeros(pixels)
            return flat.index_add(0, self._index, patches.reshape(-1)).reshape(shape)
        parts = torch.view_as_real(patches).reshape(-1, 2)
        total = parts.new_zeros(pixels, 2).index_add(0, self._index, parts)
        return torch.view_as_complex(total).reshape(shape)
