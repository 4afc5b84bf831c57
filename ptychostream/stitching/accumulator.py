"""Add patches into an object as they come, in any order."""

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ptychostream.errors import ConfigurationError
from ptychostream.geometry import ObjectGrid, patch_corners
from ptychostream.physics import fourier_shift

#: Weight, relative to the heaviest pixel of one patch, that a pixel needs to be known.
_KNOWN = 1e-3

#: Part of the probe's power that marks the area in which a patch covers the object.
COVERING_POWER = 0.9


class PatchAccumulator:
    """A weighted mean of overlapping patches, each placed at its sub-pixel position.

    Patch times weight is shifted by the fraction of a pixel in Fourier space: where the weight
    fades towards the patch's edge, as a probe does, that is exact and blurs nothing. The result
    does not depend on the order of arrival, to rounding.

    Parameters
    ----------
    grid : ObjectGrid
        Where the object lies.
    weight : (N, N) float32
        Trust in each patch pixel; the probe's intensity is the usual choice.
    device : torch.device or str
        Where the sums are kept.

    Attributes
    ----------
    weight : (N, N) float32
        Trust in each patch pixel, at most one.
    num_patches : int
        Patches added so far.
    num_clipped : int
        Those of which a part lies outside the grid and was left out.
    """

    def __init__(
        self, grid: ObjectGrid, weight: Tensor, device: torch.device | str = "cpu"
    ) -> None:
        edge = weight.shape[-1]
        # A margin on every side holds the parts of patches that reach beyond the grid.
        self._margin = edge + 1
        self._grid = grid
        self._shape = (grid.height + 2 * self._margin, grid.width + 2 * self._margin)
        self.weight = (weight / weight.max()).to(device=device, dtype=torch.float32)
        pixels = self._shape[0] * self._shape[1]
        self._total = torch.zeros(pixels, 2, device=device)
        self._cover = torch.zeros(pixels, device=device)
        self._count = torch.zeros(pixels, device=device)
        self._covering = covering_area(self.weight)
        self.num_patches = 0
        self.num_clipped = 0

    def add(self, patches: Tensor, positions: NDArray[np.float64]) -> None:
        """Add patches.

        Parameters
        ----------
        patches : (B, N, N) complex64
            Object patches.
        positions : (B, 2) float64
            Their centres (x, y) on the scan's grid, in pixels.
        """
        edge = patches.shape[-1]
        corners, fractions = patch_corners(positions - np.array(self._grid.origin), edge)
        low, high = corners.min(axis=1), (corners + edge - np.array(self._grid.shape)).max(axis=1)
        self.num_clipped += int(((low < 0) | (high > 0)).sum())
        self.num_patches += len(patches)
        # What lies wholly outside even the margin is moved into it, and cut off with it.
        limit = np.array(self._shape) - edge
        corners = np.clip(corners + self._margin, 0, limit)
        index = self._index(corners, edge)
        shifts = torch.as_tensor(fractions, dtype=torch.float32, device=self.weight.device)
        weighted = fourier_shift(patches * self.weight, shifts)
        weight = fourier_shift(self.weight.to(torch.complex64), shifts).real
        self._total.index_add_(0, index, torch.view_as_real(weighted).reshape(-1, 2))
        self._cover.index_add_(0, index, weight.reshape(-1))
        nearest = self._covering.expand(len(patches), -1, -1)
        self._count.index_add_(0, index, nearest.reshape(-1))

    def result(self) -> tuple[NDArray[np.complex64], NDArray[np.float32]]:
        """Return the object so far, and how well each of its pixels is covered.

        Returns
        -------
        object : (H, W) complex64
            Weighted mean; zero where no patch has weight.
        coverage : (H, W) float32
            Number of patches in whose lit area a pixel lies: the area that takes
            `COVERING_POWER` of the weight.
        """
        margin, (height, width) = self._margin, self._grid.shape
        inner = (slice(margin, margin + height), slice(margin, margin + width))
        cover = self._cover.reshape(self._shape)[inner]
        total = torch.view_as_complex(self._total).reshape(self._shape)[inner]
        known = cover > _KNOWN
        mean = torch.where(known, total / cover.clamp_min(_KNOWN), 0)
        count = self._count.reshape(self._shape)[inner]
        return mean.cpu().numpy(), count.cpu().numpy()

    def _index(self, corners: NDArray[np.int64], edge: int) -> Tensor:
        first = torch.as_tensor(corners, device=self.weight.device)
        span = torch.arange(edge, device=first.device)
        rows = first[:, 0, None] + span
        columns = first[:, 1, None] + span
        return (rows[:, :, None] * self._shape[1] + columns[:, None, :]).reshape(-1)


def covering_area(weight: Tensor) -> Tensor:
    """Mark the smallest area that takes `COVERING_POWER` of a weight.

    Parameters
    ----------
    weight : (N, N) float32
        Not negative.

    Returns
    -------
    (N, N) float32
        One inside, zero outside.
    """
    ordered = weight.flatten().sort(descending=True).values
    needed = torch.searchsorted(ordered.cumsum(0), COVERING_POWER * ordered.sum())
    return (weight >= ordered[min(int(needed), len(ordered) - 1)]).float()


def stitch_patches(
    patches: Tensor,
    positions: NDArray[np.float64],
    shape: tuple[int, int],
    weight: Tensor | None = None,
) -> NDArray[np.complex64]:
    """Average overlapping patches, each pixel weighted by `weight`.

    Parameters
    ----------
    patches : (M, N, N) complex64
        Object patches.
    positions : (M, 2) float64
        Their centres (x, y) in pixels of the object.
    shape : (int, int)
        Height and width of the object, in pixels.
    weight : (N, N) float32, optional
        Trust in each patch pixel; None trusts the centre most and the edges not at all.

    Returns
    -------
    (H, W) complex64
        Weighted mean where patches lie, zero where none does.

    Raises
    ------
    ConfigurationError
        If patches and positions differ in number.
    """
    if len(patches) != len(positions):
        raise ConfigurationError(f"{len(patches)} patches but {len(positions)} positions")
    if weight is None:
        window = torch.hann_window(patches.shape[-1], periodic=True)
        weight = window[:, None] * window[None, :]
    accumulator = PatchAccumulator(ObjectGrid(*shape), weight, patches.device)
    for start in range(0, len(patches), 256):
        accumulator.add(patches[start : start + 256], positions[start : start + 256])
    return accumulator.result()[0]
