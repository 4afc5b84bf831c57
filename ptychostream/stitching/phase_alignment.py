"""Find the global phase of every patch from its overlap with its neighbours.

A diffraction pattern does not determine the global phase of its patch: object features wider than
the probe show only in the phases between patches. They are found for the whole scan at once,
as the least-squares solution of all phase differences between neighbours.
"""

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.spatial import cKDTree
from torch import Tensor

from ptychostream.geometry import patch_corners
from ptychostream.stitching.phase_solver import solve_phases
from ptychostream.stitching.weights import support_window

#: Edge of the cells in which patches are compared, in pixels.
_CELL = 4
#: Neighbours that each patch is compared with.
_NEIGHBOURS = 8
#: Most patches at one position for which each still finds neighbours elsewhere.
_MOST_ALIKE = 8
#: Pairs that are compared at once.
_PAIRS_AT_ONCE = 4096
#: Patches whose neighbours are searched for together.
_PATCHES_AT_ONCE = 8192


class PhaseAlignment:
    """Compare patches with their neighbours when they are added, then solve for their phases.

    Patches are compared by thumbnails: weighted sums over cells of the object's grid, a twelfth
    of their size. A thumbnail is kept until all neighbours have been added: if the order of
    patches follows the scan area, few are in memory at a time.

    Parameters
    ----------
    weight : (N, N) float32
        Trust in each patch pixel.
    positions : (M, 2) float64
        Centres (x, y) of all patches that will come, in pixels.
    """

    def __init__(self, weight: Tensor, positions: NDArray[np.float64]) -> None:
        self._positions = positions
        self._window = support_window(weight)
        self._weight = (weight / weight.max())[self._window, self._window]
        self._edge = len(self._weight)
        # One more cell, since patches begin anywhere within a cell.
        self._cells = self._edge // _CELL + 2
        middle = weight.shape[-1] // 2 - self._window.start
        corners, _ = patch_corners(np.round(positions), 2 * middle)
        self._corners, self._inside = np.divmod(corners, _CELL)
        self._sums = _summing_matrices(self._edge, self._cells).to(weight.device)
        self._first, self._second = _neighbours(positions)
        self._overlap = np.zeros(len(self._first), np.complex128)
        number = len(positions)
        # Pairs of each patch, one patch after the other.
        ends = np.concatenate([self._first, self._second])
        self._pairs = np.argsort(ends, kind="stable") % max(len(self._first), 1)
        self._bounds = np.concatenate([[0], np.bincount(ends, minlength=number).cumsum()])
        self._unmet = np.diff(self._bounds)
        self._slot = np.full(number, -1, np.int64)
        self._is_here = np.zeros(number, bool)
        self._is_met = np.zeros(len(self._first), bool)
        self._thumbnails = np.empty((0, self._cells, self._cells), np.complex64)
        self._free: list[int] = []
        self._ready: list[NDArray[np.int64]] = []
        self._num_ready = 0

    @property
    def num_patches(self) -> int:
        """Number of patches in all, M."""
        return len(self._slot)

    @property
    def num_kept(self) -> int:
        """Thumbnails for which there is room in memory."""
        return len(self._thumbnails)

    def add(self, patches: Tensor, rows: NDArray[np.int64]) -> None:
        """Add patches.

        Parameters
        ----------
        patches : (B, N, N) complex64
            Object patches.
        rows : (B,) int64
            Row of each position; none twice.
        """
        lit = patches[:, self._window, self._window] * self._weight
        parts = torch.view_as_real(lit).flatten(2)
        inside = torch.as_tensor(self._inside[rows], device=lit.device)
        cells = self._cells
        by_rows = torch.bmm(self._sums[inside[:, 0]], parts)
        by_rows = by_rows.reshape(-1, cells, self._edge, 2).movedim(3, 1).flatten(1, 2)
        sums = torch.bmm(by_rows, self._sums[inside[:, 1]].mT).reshape(-1, 2, cells, cells)
        # A patch that is not finite has no phase, and must not affect those of others.
        sums = sums.nan_to_num(0, 0, 0)
        slots = self._take_slots(len(rows))
        self._thumbnails[slots] = torch.complex(sums[:, 0], sums[:, 1]).cpu().numpy()
        self._slot[rows] = slots
        self._is_here[rows] = True
        spans = [self._pairs[self._bounds[row] : self._bounds[row + 1]] for row in rows]
        pairs = np.unique(np.concatenate(spans)) if spans else np.empty(0, np.int64)
        both = self._is_here[self._first[pairs]] & self._is_here[self._second[pairs]]
        pairs = pairs[both & ~self._is_met[pairs]]
        self._is_met[pairs] = True
        self._ready.append(pairs)
        self._num_ready += len(pairs)
        if self._num_ready >= _PAIRS_AT_ONCE:
            self._compare()

    def solve(self) -> NDArray[np.float64]:
        """Solve for the phases of all patches.

        Returns
        -------
        (M,) float64
            Phase to turn each patch by, in radians; the mean of those that came is zero, and
            so are the others.
        """
        self._compare()
        here = np.flatnonzero(self._is_here)
        phases = np.zeros(len(self._is_here))
        if not len(here):
            return phases
        place = np.full(len(phases), -1)
        place[here] = np.arange(len(here))
        met = np.flatnonzero(self._is_met)
        phases[here] = solve_phases(
            self._positions[here],
            place[self._first[met]],
            place[self._second[met]],
            self._overlap[met],
        )
        return phases

    def _take_slots(self, number: int) -> list[int]:
        if len(self._free) < number:
            old = len(self._thumbnails)
            more = max(number, old // 2)
            room = np.empty((more, self._cells, self._cells), np.complex64)
            self._thumbnails = np.concatenate([self._thumbnails, room])
            self._free += range(old, old + more)
        taken = self._free[-number:] if number else []
        del self._free[len(self._free) - number :]
        return taken

    def _compare(self) -> None:
        """Sum first · second* over the cells that both patches of each ready pair share."""
        if not self._num_ready:
            return
        pairs = np.concatenate(self._ready)
        self._ready, self._num_ready = [], 0
        first, second = self._first[pairs], self._second[pairs]
        steps = self._corners[second] - self._corners[first]
        order = np.lexsort(steps.T)
        bounds = np.flatnonzero((np.diff(steps[order], axis=0) != 0).any(axis=1)) + 1
        cells = self._cells
        for here in np.split(order, bounds):
            down, right = (int(step) for step in steps[here[0]])
            if max(abs(down), abs(right)) >= cells:
                continue
            top, left = max(down, 0), max(right, 0)
            height, width = cells - abs(down), cells - abs(right)
            a = self._thumbnails[self._slot[first[here]], top : top + height, left : left + width]
            b = self._thumbnails[
                self._slot[second[here]],
                top - down : top - down + height,
                left - right : left - right + width,
            ]
            self._overlap[pairs[here]] = np.einsum("nij,nij->n", a, b.conj())
        for ends in (first, second):
            np.subtract.at(self._unmet, ends, 1)
        done = np.unique(np.concatenate([first, second]))
        done = done[(self._unmet[done] == 0) & (self._slot[done] >= 0)]
        self._free += self._slot[done].tolist()
        self._slot[done] = -1


def _neighbours(positions: NDArray[np.float64]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Pair each patch with its nearest neighbours; each pair occurs once."""
    number = len(positions)
    if number < 2:
        return np.empty(0, np.int64), np.empty(0, np.int64)
    # Patches at one and the same place must still find some elsewhere.
    alike = number // len(np.unique(positions, axis=0))
    count = min(_NEIGHBOURS * min(alike, _MOST_ALIKE) + 1, number)
    tree, found = cKDTree(positions), []
    for start in range(0, number, _PATCHES_AT_ONCE):
        here = np.arange(start, min(start + _PATCHES_AT_ONCE, number))
        _, near = tree.query(positions[here], k=np.arange(1, count + 1))
        first, second = np.repeat(here, count), near.ravel()
        pairs = np.minimum(first, second) * number + np.maximum(first, second)
        found.append(np.unique(pairs[first != second]))
    first, second = np.divmod(np.unique(np.concatenate(found)), number)
    return first, second


def _summing_matrices(edge: int, cells: int) -> Tensor:
    """Matrices (cell, cells, edge) that sum over cells, for each place in the first cell."""
    pixel = torch.arange(edge)
    cell = (pixel + torch.arange(_CELL)[:, None]) // _CELL
    return (cell[:, None] == torch.arange(cells)[:, None]).float()
