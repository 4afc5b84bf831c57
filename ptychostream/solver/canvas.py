"""The object, and all that has its shape, in memory or in files."""

import math
import tempfile
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ptychostream.geometry import ObjectGrid
from ptychostream.scratch import allocate
from ptychostream.solver.boxes import Box
from ptychostream.solver.layout import PatchLayout
from ptychostream.solver.prior import laplacian
from ptychostream.solver.tiles import Tiles

#: Light of a pixel is taken as at least this part of the brightest pixel's.
_FLOOR = 0.1

#: No pattern alone moves a pixel by more than so many steps: this bounds the updates at the
#: rim of a scan, where few patterns lie.
_MOST_STEPS = 2.0

#: Pixels with more than this part of the brightest one's light count as lit.
_LIT = 0.2

#: Rows of the canvas that are processed together.
_BAND = 1024

#: Bytes of a pixel: object, velocity, point ahead, pull, mean, light.
BYTES_PER_PIXEL = 5 * 8 + 4


class Canvas:
    """The object so far and what its updates need, all of one shape (H, W).

    Of several processes each has a box of the canvas, in which the pixels that it owns are right;
    `ahead` and `pull` are right in all pixels that patches and updates need.

    `tiles`: which pixels belong to which process; None is this process alone.
    `budget`: bytes in memory; a larger canvas lies in files, which the system keeps in memory as
        far as it fits.
    `scratch_folder`: where these files lie; None is the system's folder for temporary files.
    `box`, `whole`: the pixels that this process holds, and those of the whole canvas.
    `object` (H, W).
    `velocity` (H, W): the last update.
    `ahead` (H, W): where the object would be if the last update were repeated.
    `pull` (H, W): sum over a batch of the corrections that its patterns ask for, each times the
        beam.
    `root_light` (H, W): square root of the light of the whole scan, with its floor.
    """

    def __init__(
        self,
        layout: PatchLayout,
        tiles: Tiles | None = None,
        *,
        budget: int = 2**32,
        scratch_folder: Path | None = None,
    ) -> None:
        self._layout, self._device = layout, layout.device
        if tiles is None:
            tiles = Tiles(layout.positions.numpy())
            tiles.place(layout, 0)
        self._tiles = tiles
        self._budget, self._scratch = budget, scratch_folder
        self.mean: Tensor | None = None
        self._averaged = 0
        self.box, self.whole = layout.box, layout.whole
        self.shape = self.box.shape
        self._folder = self.folder_for(self.box)
        self.object, self.velocity = self._allocate(1), self._allocate()
        self._allocate_rest()

    def folder_for(self, box: Box) -> Path | None:
        """Return where a canvas of a box's size lies; None is in memory."""
        is_large = box.size * BYTES_PER_PIXEL > self._budget and self._device.type == "cpu"
        return (self._scratch or Path(tempfile.gettempdir())) if is_large else None

    def _allocate(self, value: float = 0, dtype: torch.dtype = torch.complex64) -> Tensor:
        if self._folder is None:
            image = torch.zeros(self.shape, dtype=dtype, device=self._device)
        else:
            kind = np.complex64 if dtype.is_complex else np.float32
            image = torch.from_numpy(allocate(self.shape, kind, self._folder))
        return image.fill_(value) if value else image

    def _allocate_rest(self) -> None:
        self.ahead, self.pull = self._allocate(), self._allocate()
        self.root_light = self._allocate(dtype=torch.float32)

    def hold_box(self) -> None:
        """Hold the layout's box, which has changed, from now on; the light is to be set again."""
        old, new = self.box, self._layout.box
        self.box, self.shape, self._folder = new, new.shape, self.folder_for(new)
        # One after the other: all of them twice may not fit.
        del self.ahead, self.pull, self.root_light
        common = old & new

        def moved(image: Tensor, beyond: float) -> Tensor:
            held = self._allocate(beyond)
            held[common.slices_in(new)] = image[common.slices_in(old)]
            return held

        self.object = moved(self.object, 1)
        self.velocity = moved(self.velocity, 0)
        if self.mean is not None:
            self.mean = moved(self.mean, 1)
        self._allocate_rest()

    def clear(self) -> None:
        """Go back to a flat object at rest."""
        self.object.fill_(1)
        self.velocity.zero_()
        self.forget_mean()

    def set_light(self, light: Tensor, probe: Tensor, num_batches: int) -> int:
        """Set the light of the scan, with a floor where there is little; count lit pixels."""
        ranks = self._tiles.ranks
        brightest = ranks.most(float(light.max()))
        beam = float(probe.abs().square().sum(0).max())
        floor = max(_FLOOR * brightest, num_batches * beam / _MOST_STEPS)
        torch.mul(light, 1 - _FLOOR, out=self.root_light)
        self.root_light.add_(floor).sqrt_()
        most = torch.tensor(ranks.most(float(self.root_light.max())))
        is_lit = self.root_light[self._tiles.own_slices] > _LIT**0.5 * most
        return round(ranks.total(int(is_lit.sum())))

    def advance(self, momentum: float) -> None:
        """Go to the point ahead, and clear the pull."""
        torch.add(self.object, self.velocity, alpha=momentum, out=self.ahead)
        self._tiles.fetch(self.ahead)
        self.pull.zero_()

    @property
    def own_slices(self) -> tuple[slice, slice]:
        """Rows and columns of the pixels that belong to this process."""
        return self._tiles.own_slices

    def add_up_pull(self) -> None:
        """Add what the patterns of other processes ask for."""
        self._tiles.add(self.pull)

    @property
    def found(self) -> Tensor:
        """The object, or its mean over the last passes, if there is one, (H, W)."""
        return self.object if self.mean is None else self.mean

    def complete(self, image: Tensor) -> None:
        """Fetch the pixels of an image, such as the object, that other processes own."""
        self._tiles.fetch(image)

    def relative_change(self) -> float:
        """Return the norm of the last update as a part of the object's."""
        own = self._tiles.own_slices
        change, size = (
            self._tiles.ranks.total(float(image[own].norm()) ** 2)
            for image in (self.velocity, self.object)
        )
        return math.sqrt(change / size)

    def average(self) -> None:
        """Add the object to the mean over the last passes."""
        self._averaged += 1
        if self.mean is None:
            self.mean = self._allocate()
        self.mean += (self.object - self.mean) / self._averaged

    def roughness(self) -> float:
        """Return the sum of |∇²(√L (O - 1))|² over the canvas, in double precision."""
        self._tiles.fetch(self.object)
        box, whole = self.box, self.whole
        # Differences reach a pixel beyond those of this process.
        own = self._tiles.own & whole.grown(-1)
        rows, columns = (own.grown(1) & whole).slices_in(box)
        total = 0.0
        for top in range(rows.start, rows.stop - 2, _BAND):
            band = slice(top, min(top + _BAND + 2, rows.stop)), columns
            total += float(
                laplacian((self.object[band] - 1) * self.root_light[band]).abs().square().sum()
            )
        return self._tiles.ranks.total(total)

    def on_grid(self, layout: PatchLayout, grid: ObjectGrid) -> NDArray[np.complex64]:
        """Return the object (its mean, if there is one) on a grid; 1 beyond the canvas."""
        result = allocate(grid.shape, np.complex64, self._folder)
        result[:] = 1
        rows, columns, grid_rows, grid_columns = layout.window(grid)
        result[grid_rows, grid_columns] = self.found[rows, columns].cpu().numpy()
        return result

    def forget_mean(self) -> None:
        """Begin the mean anew."""
        self.mean, self._averaged = None, 0
