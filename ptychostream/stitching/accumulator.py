"""Add patches into an object, in any order."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ptychostream.errors import ConfigurationError
from ptychostream.geometry import ObjectGrid
from ptychostream.physics import UNLIT
from ptychostream.stitching.canvas import Canvas, DeviceCanvas, HostCanvas, allocate
from ptychostream.stitching.interpolation import (
    Placement,
    ShiftedWeight,
    shift_to_pixels,
    whole_corners,
)
from ptychostream.stitching.weights import covering_area, patch_weight, support_window

#: Rows of the object that are normalised at once.
_BAND = 1024


@dataclass(frozen=True, eq=False)
class PlacedPatches:
    """Weighted patches of groups, on whole pixels; only the phase of each group is missing.

    Attributes
    ----------
    blocks : (K, ..., h, w) complex64
        Where members of a group overlap they are added up, so that there is one block for each.
    corners : (K, 2) int64
        Row and column of each block's first pixel.
    groups : (K,) int64
        The group, among those that were placed together, that a block belongs to.
    is_even : (K,) bool
        Whether it belongs to the first half.
    """

    blocks: Tensor
    corners: NDArray[np.int64]
    groups: NDArray[np.int64]
    is_even: NDArray[np.bool_]


class PatchAccumulator:
    """A weighted mean of overlapping patches, each placed at its sub-pixel position.

    A patch times its weight is shifted by the fraction of a pixel, and so is the weight, which
    is what the sum is divided by. The result does not depend on the order of arrival, to
    rounding. Patches that are not finite, or lie outside the grid, are counted and left out.

    Parameters
    ----------
    weight : (N, N) float32
        Trust in each patch pixel; the probe's intensity is the usual choice.
    device : torch.device or str
        Where patches are shifted and sums are kept.
    placement : str
        `fourier` shifts exactly where the weight fades out towards the patch's edge, as a probe
        does; `bilinear` shares each pixel among four, and blurs a little.
    num_layers : int, optional
        Layers L of patches and object; None is one, without an axis of its own.
    scratch_folder : Path, optional
        Where the sums lie in files, for objects larger than the memory; None is in memory.
    keeps_halves : bool
        Whether the sums of every other group are kept too, for `halves`.

    Attributes
    ----------
    weight : (n, n) float32
        Weight of each pixel of the support, at most one.
    window : slice
        That window, along both axes of a patch.
    covering : (n, n) float32
        One where a patch counts as covering the object.
    num_duplicates : int
        Those of a pattern that had been added before.
    num_clipped : int
        Those of which a part lies outside the grid and was left out.
    num_dropped : int
        Those that were left out altogether.
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
        #: Pixels at the window's edges that have no weight.
        self._margin = min(first, len(self.weight) - 1 - last)
        self._is_plain = bool((self.weight == 1).all())
        self._shifted_weight = ShiftedWeight(self.weight, placement)
        self._grid, self._placement = grid, placement
        # The middle of the patch within the support.
        self._edge = 2 * (weight.shape[-1] // 2 - self.window.start)
        self._layers = () if num_layers is None else (num_layers,)
        self._folder = scratch_folder
        self._device = torch.device(device)
        self._total = self._canvas((*self._layers, *grid.shape), np.complex64)
        self._cover = self._canvas(grid.shape, np.float32)
        self._half: tuple[Canvas, Canvas] | None = None
        if keeps_halves:
            total = self._canvas((*self._layers, *grid.shape), np.complex64)
            self._half = total, self._canvas(grid.shape, np.float32)
        self.covering = covering_area(self.weight.cpu())
        self._seen = np.zeros(0, bool)
        # Corners of the covering areas: one table that doubles in size, not a list of small ones.
        self._counted = np.zeros((0, 2), np.int64)
        self._num_counted = 0
        self.num_patches = self.num_duplicates = self.num_clipped = self.num_dropped = 0

    def add(
        self,
        patches: Tensor,
        positions: NDArray[np.float64],
        rows: NDArray[np.int64] | None = None,
    ) -> None:
        """Add patches.

        Parameters
        ----------
        patches : (B, ..., N, N) complex64
            Object patches.
        positions : (B, 2) float64
            Their centres (x, y) on the scan's grid, in pixels.
        rows : (B,) int64, optional
            The pattern of each: coverage counts each pattern once. None takes all as different.
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
        """Interpolate the patches of groups to whole pixels, and count them as added.

        Parameters
        ----------
        patches : (B, C, ..., N, N) complex64
            Object patches.
        positions : (B, C, 2) float64
            Their centres (x, y) on the scan's grid, in pixels.
        rows : (B, C) int64, optional
            The pattern of each.
        is_even : (B,) bool, optional
            Which groups belong to the first half, where halves are kept.
        """
        shape = positions.shape[:2]
        lit = patches[..., self.window, self.window].flatten(0, 1).to(self._device)
        corners, fractions = whole_corners(
            positions.reshape(-1, 2) - np.array(self._grid.origin), self._edge, self._placement
        )
        used = self._admit(lit, corners, None if rows is None else rows.ravel())
        shifts = torch.as_tensor(fractions, dtype=torch.float32, device=self._device)
        weighted = lit if self._is_plain else lit * self.weight
        blocks = shift_to_pixels(weighted, shifts, self._placement)
        first_half = np.zeros(shape[0], bool) if is_even is None else is_even
        for part in (True, False):
            mine = used & np.repeat(first_half == part, shape[1])
            self._add_weights(
                shifts, corners, mine, None if rows is None else rows.ravel(), is_even=part
            )
        if not used.all():
            # Not multiplied by zero, which would keep NaN.
            blocks[torch.as_tensor(~used, device=blocks.device)] = 0
        if shape[1] > 1 and self._device.type == "cpu":
            blocks = blocks.reshape(*shape, *blocks.shape[1:])
            return _merge(blocks, corners.reshape(*shape, 2), first_half)
        owners = np.repeat(np.arange(shape[0]), shape[1])
        return PlacedPatches(blocks, corners, owners, first_half[owners])

    def add_placed(self, placed: PlacedPatches, phases: NDArray[np.float64] | None = None) -> None:
        """Add placed patches.

        Parameters
        ----------
        phases : (B,) float64, optional
            Phase to turn each group by, in radians.
        """
        blocks = placed.blocks.to(self._device)
        if phases is not None:
            turns = torch.as_tensor(np.exp(1j * phases[placed.groups]), dtype=blocks.dtype)
            blocks = blocks * turns.to(blocks.device).reshape(-1, *(1,) * (blocks.ndim - 1))
        self._total.add(blocks, placed.corners)
        if self._half is not None and placed.is_even.any():
            mine = torch.as_tensor(placed.is_even, device=blocks.device)
            self._half[0].add(blocks[mine], placed.corners[placed.is_even])

    def result(self) -> tuple[NDArray[np.complex64], NDArray[np.float32]]:
        """Return the object so far, and its coverage.

        Returns
        -------
        object : (..., H, W) complex64
            Weighted mean; zero where no patch has weight.
        coverage : (H, W) float32
            Number of different patterns in whose lit area a pixel lies: the area that takes
            `COVERING_POWER` of the weight.
        """
        total, cover = self.sums()
        mean = allocate(total.shape, np.complex64, self._folder)
        for start in range(0, total.shape[-2], _BAND):
            band = (..., slice(start, start + _BAND), slice(None))
            known = cover[band[1:]] > UNLIT
            np.divide(total[band], cover[band[1:]], out=mean[band], where=known)
        count = HostCanvas(self._grid.shape, np.float32, self._folder)
        for start in range(0, self._num_counted, _BAND):
            corners = self._counted[start : min(start + _BAND, self._num_counted)]
            count.add(self.covering.expand(len(corners), -1, -1), corners)
        return mean, count.values()

    def halves(self) -> tuple[NDArray[np.complex64], NDArray[np.complex64], NDArray[np.bool_]]:
        """Return two objects, each from every other group.

        Returns
        -------
        first, second : (..., H, W) complex64
            The objects.
        known : (H, W) bool
            Where both have weight.

        Raises
        ------
        ConfigurationError
            If halves were not kept.
        """
        if self._half is None:
            raise ConfigurationError("the halves of this object were not kept: keeps_halves=True")
        total, cover = self.sums()
        even_total, even_cover = self._half[0].values(), self._half[1].values()
        known = (even_cover > UNLIT) & (cover - even_cover > UNLIT)
        first, second = np.zeros_like(even_total), total - even_total
        np.divide(even_total, even_cover, out=first, where=known)
        np.divide(second, cover - even_cover, out=second, where=known)
        second *= known
        return first, second, known

    def has_patch(self, rows: NDArray[np.int64]) -> NDArray[np.bool_]:
        """Return of which patterns there is a patch.

        Parameters
        ----------
        rows : (R,) int64
            Patterns, with the numbers passed to `add` and `place`.

        Returns
        -------
        (R,) bool
            True where a patch was added.
        """
        known = np.zeros(len(rows), bool)
        within = rows < len(self._seen)
        known[within] = self._seen[rows[within]]
        return known

    def sums(self) -> tuple[NDArray[np.complex64], NDArray[np.float32]]:
        """Return the sum of weighted patches (..., H, W), and that of their weights (H, W)."""
        return self._total.values(), self._cover.values()

    def _canvas(self, shape: tuple[int, ...], dtype: Any) -> Canvas:
        if self._device.type == "cpu":
            return HostCanvas(shape, dtype, self._folder)
        return DeviceCanvas(shape, dtype, self._device)

    def _admit(
        self, lit: Tensor, corners: NDArray[np.int64], rows: NDArray[np.int64] | None
    ) -> NDArray[np.bool_]:
        """Count patches, and return which of them can be used."""
        # Pixels without weight do not matter.
        begin, end = corners + self._margin, corners + lit.shape[-1] - self._margin
        shape = np.array(self._grid.shape)
        low, high = begin.min(axis=1), (end - shape).max(axis=1)
        outside = (end <= 0).any(axis=1) | (begin >= shape).any(axis=1)
        # The sum is not finite if any value is not; that is faster than testing each.
        finite = torch.isfinite(torch.view_as_real(lit.flatten(1).sum(dim=1))).all(dim=1)
        used: NDArray[np.bool_] = finite.cpu().numpy() & ~outside
        self.num_patches += int(used.sum())
        self.num_dropped += int((~used).sum())
        self.num_clipped += int((used & ((low < 0) | (high > 0))).sum())
        new = used
        if rows is not None and len(rows):
            missing = int(rows.max()) + 1 - len(self._seen)
            if missing > 0:
                self._seen = np.pad(self._seen, (0, missing + len(self._seen)))
            first = np.zeros(len(rows), bool)
            used_rows = np.flatnonzero(used)
            first[used_rows[np.unique(rows[used_rows], return_index=True)[1]]] = True
            new = used & first & ~self._seen[rows]
            self._seen[rows[used]] = True
            self.num_duplicates += int((used & ~new).sum())
        number = self._num_counted + int(new.sum())
        if number > len(self._counted):
            self._counted = np.concatenate([self._counted, np.zeros((number, 2), np.int64)])
        self._counted[self._num_counted : number] = corners[new]
        self._num_counted = number
        return used

    def _add_weights(
        self,
        shifts: Tensor,
        corners: NDArray[np.int64],
        used: NDArray[np.bool_],
        rows: NDArray[np.int64] | None,
        *,
        is_even: bool,
    ) -> None:
        """Add the weights of patches; those of the same pattern at once."""
        chosen = np.flatnonzero(used)
        if not len(chosen):
            return
        times: NDArray[Any] = np.ones(len(chosen))
        if rows is not None:
            _, first, times = np.unique(rows[chosen], return_index=True, return_counts=True)
            chosen = chosen[first]
        weights = self._shifted_weight.at(shifts[torch.as_tensor(chosen)])
        if (times != 1).any():
            weights *= torch.as_tensor(times, dtype=weights.dtype).to(weights.device)[:, None, None]
        self._cover.add(weights, corners[chosen])
        if is_even and self._half is not None:
            self._half[1].add(weights, corners[chosen])


def _merge(blocks: Tensor, corners: NDArray[np.int64], is_even: NDArray[np.bool_]) -> PlacedPatches:
    """Add up the blocks of each group (B, C, ..., h, w) in the smallest block that holds them."""
    groups, members = blocks.shape[:2]
    first = corners.min(axis=1)
    inside = corners - first[:, None]
    rows, columns = (int(n) + blocks.shape[-1] for n in inside.max(axis=(0, 1)))
    owners = np.arange(groups)
    if rows * columns > members * blocks.shape[-1] ** 2:
        # If members lie far apart, that block would be mostly empty.
        owners = owners.repeat(members)
        return PlacedPatches(blocks.flatten(0, 1), corners.reshape(-1, 2), owners, is_even[owners])
    parts, edge = blocks.numpy(), blocks.shape[-1]
    merged = np.zeros((groups, *parts.shape[2:-2], rows, columns), parts.dtype)
    for group, places in enumerate(inside.tolist()):
        for member, (top, left) in enumerate(places):
            merged[group, ..., top : top + edge, left : left + edge] += parts[group, member]
    return PlacedPatches(torch.from_numpy(merged), first, owners, is_even)


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
        Trust in each patch pixel; None is a Hann window: largest in the middle, zero at the edges.
    placement : str
        As `PatchAccumulator` has it.

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
