"""Add patches into an object as they come, in any order."""

from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ptychostream.errors import ConfigurationError
from ptychostream.geometry import ObjectGrid
from ptychostream.physics import UNLIT
from ptychostream.stitching.canvas import HostCanvas
from ptychostream.stitching.coverage import Coverage
from ptychostream.stitching.interpolation import (
    Placement,
    ShiftedWeight,
    shift_to_pixels,
    whole_corners,
)
from ptychostream.stitching.placed_patches import PlacedPatches, merge_blocks
from ptychostream.stitching.weighted_sum import WeightedSum
from ptychostream.stitching.weights import covering_area, patch_weight, support_window


class PatchAccumulator:
    """A weighted mean of overlapping patches, each placed at its sub-pixel position.

    A patch times its weight is shifted by the fraction of a pixel, and so is the weight, which
    is what the sum is divided by. The result does not depend on the order of arrival, to
    rounding. Patches that are not finite, or lie outside the grid, are counted and left out.

    `weight` (N, N): trust in each patch pixel; the probe's intensity is the usual choice.
    `device`: where patches are shifted and sums are kept.
    `placement`: `fourier` shifts exactly where the weight fades out towards the patch's edge, as a
        probe does; `bilinear` shares each pixel among four, and blurs a little.
    `num_layers`: layers L of patches and object; None is one, without an axis of its own.
    `scratch_folder`: where the sums lie in files, for objects larger than the memory; None is in
        memory.
    `keeps_halves`: whether the sums of every other group are kept too, for `halves`.
    `weight` (n, n): trust in each pixel of the lit window of a patch, at most one.
    `window`: that window, along both axes of a patch.
    `covering` (n, n): one where a patch counts as covering the object.
    """

    def __init__(
        self,
        grid: ObjectGrid,
        weight: Tensor,
        device: torch.device | str = "cpu",
        *,
        placement: Placement = "fourier",
        num_layers: int | None = None,
        scratch_folder: Path | None = None,
        keeps_halves: bool = False,
    ) -> None:
        self.window = support_window(weight)
        lit = weight[self.window, self.window]
        self.weight = (lit / lit.max()).to(device=device, dtype=torch.float32).contiguous()
        lit_pixels = (self.weight >= UNLIT).nonzero()
        first, last = int(lit_pixels.min()), int(lit_pixels.max())
        #: Pixels at the edges of the window that have no weight.
        self._margin = min(first, len(self.weight) - 1 - last)
        self._is_plain = bool((self.weight == 1).all())
        self._shifted_weight = ShiftedWeight(self.weight, placement)
        self._grid, self._placement = grid, placement
        # The patch's centre within the lit window.
        self._edge = 2 * (weight.shape[-1] // 2 - self.window.start)
        self._folder, self._device = scratch_folder, torch.device(device)
        layers = () if num_layers is None else (num_layers,)
        self._sum = WeightedSum(
            (*layers, *grid.shape), self._device, folder=scratch_folder, keeps_halves=keeps_halves
        )
        self._coverage = Coverage(covering_area(self.weight.cpu()))

    @property
    def covering(self) -> Tensor:
        """One where a patch covers the object (n, n), zero elsewhere."""
        return self._coverage.area

    @property
    def num_patches(self) -> int:
        """Patches that were used."""
        return self._coverage.num_patches

    @property
    def num_duplicates(self) -> int:
        """Those of a pattern that had been added before."""
        return self._coverage.num_duplicates

    @property
    def num_clipped(self) -> int:
        """Those of which a part lies outside the grid and was left out."""
        return self._coverage.num_clipped

    @property
    def num_dropped(self) -> int:
        """Those that were left out altogether."""
        return self._coverage.num_dropped

    def add(
        self,
        patches: Tensor,
        positions: NDArray[np.float64],
        rows: NDArray[np.int64] | None = None,
    ) -> None:
        """Add patches.

        `patches` (B, ..., N, N).
        `positions` (B, 2): their centres (x, y) on the scan's grid, in pixels.
        `rows` (B,): the pattern of each: coverage counts each pattern once. None takes all as
            different.
        """
        members = None if rows is None else rows[:, None]
        self.add_placed(self.place(patches[:, None], positions[:, None], members))

    def place(
        self,
        patches: Tensor,
        positions: NDArray[np.float64],
        rows: NDArray[np.int64] | None = None,
        is_even: NDArray[np.bool_] | None = None,
    ) -> PlacedPatches:
        """Bring the patches of groups onto whole pixels, and count them as added.

        `patches` (B, C, ..., N, N).
        `positions` (B, C, 2): their centres (x, y) on the scan's grid, in pixels.
        `rows` (B, C): the pattern of each.
        `is_even` (B,): which groups belong to the first half, where halves are kept.
        """
        shape = positions.shape[:2]
        in_half = np.zeros(shape[0], bool) if is_even is None else is_even
        flat_rows = None if rows is None else rows.ravel()
        # Whole pixels are indices; only the fraction of a pixel is left to shift by.
        lit = patches[..., self.window, self.window].flatten(0, 1).to(self._device)
        corners, fractions = whole_corners(
            positions.reshape(-1, 2) - np.array(self._grid.origin), self._edge, self._placement
        )
        used, clipped = self._usable(lit, corners)
        self._coverage.add(corners, used, clipped, flat_rows)
        # Weighted before the shift: what fades out towards the edges has no seam where it wraps.
        shifts = torch.as_tensor(fractions, dtype=torch.float32, device=self._device)
        weighted = lit if self._is_plain else lit * self.weight
        blocks = shift_to_pixels(weighted, shifts, self._placement)
        # The divisor is known without phases, so it is added now and not kept with the patches.
        for half in (True, False):
            mine = used & np.repeat(in_half == half, shape[1])
            self._add_weights(shifts, corners, mine, flat_rows, in_half=half)
        if not used.all():
            # Not multiplied by zero, since NaN times zero is NaN.
            blocks[torch.as_tensor(~used, device=blocks.device)] = 0
        if shape[1] > 1 and self._device.type == "cpu":
            # Members of a group share its phase: one block for all is less to keep and to add.
            blocks = blocks.reshape(*shape, *blocks.shape[1:])
            return merge_blocks(blocks, corners.reshape(*shape, 2), in_half)
        owners = np.repeat(np.arange(shape[0]), shape[1])
        return PlacedPatches(blocks, corners, owners, in_half[owners])

    def add_placed(self, placed: PlacedPatches, phases: NDArray[np.float64] | None = None) -> None:
        """Add placed patches.

        `phases` (B,): phase to turn each group by, in radians.
        """
        blocks = placed.blocks.to(self._device)
        if phases is not None:
            turns = torch.as_tensor(np.exp(1j * phases[placed.groups]), dtype=blocks.dtype)
            blocks = blocks * turns.to(blocks.device).reshape(-1, *(1,) * (blocks.ndim - 1))
        self._sum.add_blocks(blocks, placed.corners, placed.is_even)

    def result(self) -> tuple[NDArray[np.complex64], NDArray[np.float32]]:
        """Return the object so far, and how well each of its pixels is covered.

        Returns `object` (..., H, W): weighted mean; zero where no patch has weight.
        Returns `coverage` (H, W): number of different patterns in whose lit area a pixel lies: the
            area that takes `COVERING_POWER` of the weight.
        """
        mean = self._sum.mean()
        return mean, self._coverage.count(HostCanvas(self._grid.shape, np.float32, self._folder))

    def halves(self) -> tuple[NDArray[np.complex64], NDArray[np.complex64], NDArray[np.bool_]]:
        """Return two objects, each from every other group.

        Returns `first`, `second` (..., H, W).
        Returns `known` (H, W): where both have weight.
        """
        return self._sum.halves()

    def has_patch(self, rows: NDArray[np.int64]) -> NDArray[np.bool_]:
        """Return of which patterns (R,), numbered as in `add` and `place`, a patch was added."""
        return self._coverage.has_patch(rows)

    def sums(self) -> tuple[NDArray[np.complex64], NDArray[np.float32]]:
        """Return the sum of weighted patches (..., H, W), and that of their weights (H, W)."""
        return self._sum.values()

    def _usable(
        self, lit: Tensor, corners: NDArray[np.int64]
    ) -> tuple[NDArray[np.bool_], NDArray[np.bool_]]:
        """Find which patches can be used, and which of them reach beyond the grid."""
        # Pixels without weight do not count as a part of the patch.
        begin, end = corners + self._margin, corners + lit.shape[-1] - self._margin
        shape = np.array(self._grid.shape)
        clipped = ((begin < 0) | (end > shape)).any(axis=1)
        outside = ((end <= 0) | (begin >= shape)).any(axis=1)
        # One value that is not finite makes the sum not finite, which is quickly computed.
        finite = torch.isfinite(torch.view_as_real(lit.flatten(1).sum(dim=1))).all(dim=1)
        return finite.cpu().numpy() & ~outside, np.asarray(clipped)

    def _add_weights(
        self,
        shifts: Tensor,
        corners: NDArray[np.int64],
        used: NDArray[np.bool_],
        rows: NDArray[np.int64] | None,
        *,
        in_half: bool,
    ) -> None:
        """Add the weights of patches; those of one pattern lie at one place and are added once."""
        chosen = np.flatnonzero(used)
        if not len(chosen):
            return
        times = np.ones(len(chosen), np.int64)
        if rows is not None:
            _, first, times = np.unique(rows[chosen], return_index=True, return_counts=True)
            chosen = chosen[first]
        weights = self._shifted_weight.at(shifts[torch.as_tensor(chosen)])
        if (times != 1).any():
            weights *= torch.as_tensor(times, dtype=weights.dtype).to(weights.device)[:, None, None]
        self._sum.add_weights(weights, corners[chosen], in_half=in_half)


def stitch_patches(
    patches: Tensor,
    positions: NDArray[np.float64],
    shape: tuple[int, int],
    weight: Tensor | None = None,
    *,
    placement: Placement = "fourier",
) -> NDArray[np.complex64]:
    """Average overlapping patches, each pixel weighted by `weight`.

    Parameters
    ----------
    patches : (M, ..., N, N) complex64
        Object patches, perhaps of several layers.
    positions : (M, 2) float64
        Their centres (x, y) in pixels of the object.
    shape : (int, int)
        Height and width of the object, in pixels.
    weight : (N, N) float32, optional
        Trust in each patch pixel; None trusts the centre most and the edges not at all.
    placement : str
        See `PatchAccumulator`.

    Returns
    -------
    (..., H, W) complex64
        Weighted mean where patches lie, zero where none does.

    Raises
    ------
    ConfigurationError
        If patches and positions differ in number.
    """
    if len(patches) != len(positions):
        raise ConfigurationError(f"{len(patches)} patches but {len(positions)} positions")
    window = torch.hann_window(patches.shape[-1], periodic=True, device=patches.device)
    light = window[:, None] * window[None, :]
    accumulator = PatchAccumulator(
        ObjectGrid(*shape),
        patch_weight("probe" if weight is None else weight, light),
        patches.device,
        placement=placement,
        num_layers=patches.shape[1] if patches.ndim == 4 else None,
    )
    for start in range(0, len(patches), 256):
        accumulator.add(patches[start : start + 256], positions[start : start + 256])
    return accumulator.result()[0]
