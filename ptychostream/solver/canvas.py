"""The object, and all that has its shape, in memory or in files."""

import tempfile
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ptychostream.geometry import ObjectGrid
from ptychostream.solver.layout import PatchLayout
from ptychostream.solver.prior import laplacian
from ptychostream.stitching.canvas import allocate

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

    Parameters
    ----------
    layout : PatchLayout
        Shape and device.
    budget : int
        Bytes in memory; a larger canvas lies in files, which the system keeps in memory as far
        as it fits.
    scratch_folder : Path, optional
        Where these files lie; None is the system's folder for temporary files.

    Attributes
    ----------
    object : (H, W) complex64
        The object.
    velocity : (H, W) complex64
        The last update.
    ahead : (H, W) complex64
        Where the object would be if the last update were repeated.
    pull : (H, W) complex64
        Sum over a batch of the corrections that its patterns ask for, each times the beam.
    root_light : (H, W) float32
        Square root of the light of the whole scan, with its floor.
    """

    def __init__(
        self, layout: PatchLayout, *, budget: int = 2**32, scratch_folder: Path | None = None
    ) -> None:
        self.shape, self._device = layout.shape, layout.device
        size = self.shape[0] * self.shape[1] * BYTES_PER_PIXEL
        is_large = size > budget and layout.device.type == "cpu"
        folder = scratch_folder or Path(tempfile.gettempdir())
        self._folder = folder if is_large else None
        self.object = self._allocate(np.complex64)
        self.object.fill_(1)
        self.velocity, self.ahead, self.pull = (self._allocate(np.complex64) for _ in range(3))
        self.root_light = self._allocate(np.float32)
        self.mean: Tensor | None = None
        self._averaged = 0

    def _allocate(self, dtype: type) -> Tensor:
        if self._folder is None:
            kind = torch.complex64 if dtype is np.complex64 else torch.float32
            return torch.zeros(self.shape, dtype=kind, device=self._device)
        return torch.from_numpy(allocate(self.shape, dtype, self._folder))

    def clear(self) -> None:
        """Go back to a flat object at rest."""
        self.object.fill_(1)
        self.velocity.zero_()
        self.forget_mean()

    def set_light(self, light: Tensor, probe: Tensor, num_batches: int) -> int:
        """Set the light of the scan, with a floor where there is little; count lit pixels."""
        brightest = float(light.max())
        beam = float(probe.abs().square().sum(0).max())
        floor = max(_FLOOR * brightest, num_batches * beam / _MOST_STEPS)
        torch.mul(light, 1 - _FLOOR, out=self.root_light)
        self.root_light.add_(floor).sqrt_()
        return int((self.root_light > _LIT**0.5 * self.root_light.max()).sum())

    def advance(self, momentum: float) -> None:
        """Go to the point ahead, and clear the pull."""
        torch.add(self.object, self.velocity, alpha=momentum, out=self.ahead)
        self.pull.zero_()

    def average(self) -> None:
        """Add the object to the mean over the last passes."""
        self._averaged += 1
        if self.mean is None:
            self.mean = self._allocate(np.complex64)
        self.mean += (self.object - self.mean) / self._averaged

    def roughness(self) -> float:
        """Return the sum of |∇²(√L (O - 1))|², in double precision."""
        total = 0.0
        for top in range(0, self.shape[0] - 2, _BAND):
            rows = slice(top, top + _BAND + 2)
            total += float(
                laplacian((self.object[rows] - 1) * self.root_light[rows]).abs().square().sum()
            )
        return total

    def on_grid(self, layout: PatchLayout, grid: ObjectGrid) -> NDArray[np.complex64]:
        """Return the object (its mean, if there is one) on a grid; 1 beyond the canvas."""
        source = self.object if self.mean is None else self.mean
        result = allocate(grid.shape, np.complex64, self._folder)
        result[:] = 1
        rows, columns, grid_rows, grid_columns = layout.window(grid)
        result[grid_rows, grid_columns] = source[rows, columns].cpu().numpy()
        return result

    def forget_mean(self) -> None:
        """Begin the mean anew."""
        self.mean, self._averaged = None, 0
