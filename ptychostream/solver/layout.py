"""Where each pattern's patch lies on the canvas, and the fraction of a pixel that is left."""

from copy import copy

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ptychostream.geometry import ObjectGrid
from ptychostream.solver.boxes import Box
from ptychostream.solver.fast_length import fast_length

#: Pixels around the patches into which positions may wander.
MARGIN = 8


class PatchLayout:
    """Positions of patterns on a canvas that holds all of their patches.

    Patches are cut at whole pixels, and the beam is shifted by the fraction that is left: the
    object itself is never interpolated.

    `positions` (M, 2): scan positions (x, y), in pixels.
    `edge`: edge N of a patch.
    `positions` (M, 2): the positions so far.
    `whole`: the canvas of all patches.
    `box`: the part of it that this process holds, with all patches of its own patterns; the whole
        canvas where it is alone.
    """

    def __init__(
        self, positions: NDArray[np.float64], edge: int, device: torch.device | str = "cpu"
    ) -> None:
        self.edge, self.device = edge, torch.device(device)
        self.positions = torch.from_numpy(np.array(positions, dtype=np.float64))
        low = np.floor(positions.min(axis=0)).astype(int) - edge // 2 - MARGIN
        high = np.ceil(positions.max(axis=0)).astype(int) + edge // 2 + MARGIN
        width, height = (fast_length(int(n)) for n in high - low)
        left, top = int(low[0]), int(low[1])
        self.whole = self.box = Box(left, top, left + width, top + height)
        self._frequency = torch.fft.fftfreq(edge, device=self.device)
        self._limit = torch.tensor([width, height]) - edge

    @property
    def shape(self) -> tuple[int, int]:
        """Rows and columns of the box."""
        return self.box.shape

    @property
    def origin(self) -> tuple[int, int]:
        """Position (x, y) of the box's first pixel."""
        return self.box.origin

    def on_whole(self) -> "PatchLayout":
        """Return the same patches on the whole canvas."""
        layout = copy(self)
        layout.box = self.whole
        return layout

    def corners(self, rows: Tensor) -> tuple[Tensor, Tensor]:
        """Return first pixels (x, y) of patches, (B, 2) int64, and fractions left, (B, 2)."""
        exact = self.positions[rows] - self.edge // 2 - torch.tensor(self.whole.origin)
        corner = exact.round().long()
        # One pixel is left on each side for the differences that positions are found from.
        corner = torch.minimum(corner.clamp(min=1), self._limit - 1)
        fraction = (exact - corner).float()
        if self.box is not self.whole:
            corner -= torch.tensor(self.origin) - torch.tensor(self.whole.origin)
        return corner, fraction

    def ramps(self, fractions: Tensor) -> Tensor:
        """Return the factors (B, 1, N, N) that shift a spectrum by fractions (B, 2) of a pixel."""
        phase = -2 * torch.pi * fractions.to(self.device)[..., None] * self._frequency
        along = torch.polar(torch.ones_like(phase), phase)
        return (along[:, 1, :, None] * along[:, 0, None, :])[:, None]

    def cut(self, canvas: Tensor, corner: Tensor, offset: tuple[int, int] = (0, 0)) -> Tensor:
        """Cut patches (B, N, N) out of a canvas (H, W), offset by whole pixels (x, y)."""
        windows = canvas.unfold(0, self.edge, 1).unfold(1, self.edge, 1)
        x, y = (corner[:, axis].to(self.device) + offset[axis] for axis in (0, 1))
        return windows[y, x]

    def add(self, canvas: Tensor, corner: Tensor, patches: Tensor) -> None:
        """Add patches (B, N, N) to a canvas (H, W), in place: the adjoint of `cut`."""
        span = torch.arange(self.edge, device=self.device)
        x, y = corner.to(self.device).unbind(1)
        rows = (y[:, None] + span) * self.shape[1]
        index = rows[:, :, None] + (x[:, None] + span)[:, None]
        canvas.view(-1).index_add_(0, index.flatten(), patches.reshape(-1))

    def window(self, grid: ObjectGrid) -> tuple[slice, slice, slice, slice]:
        """Return the common part of canvas and grid: its rows and columns on either."""
        other = Box.of_grid(grid)
        common = self.box & other
        return *common.slices_in(self.box), *common.slices_in(other)
