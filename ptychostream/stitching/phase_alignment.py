"""Find the global phase of every patch from its overlap with its neighbours.

A diffraction pattern does not depend on the global phase of its patch: object features wider
than the beam show only in the phases between patches. The phases are the least-squares solution
of all phase differences between neighbours, found block by block: first within blocks of patches
that lie together, then between the blocks. Time grows with the number of patches, and some fifty
bytes are kept of each.
"""

from collections import defaultdict

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.spatial import cKDTree
from torch import Tensor

from ptychostream.geometry import patch_corners
from ptychostream.stitching.phase_solver import runs_along_strips, solve_phases
from ptychostream.stitching.weights import support_window

#: Edge of the cells in which patches are compared, in pixels.
_CELL = 4
#: Neighbours that each patch is compared with.
_NEIGHBOURS = 8
#: Most patches at one place for which each still finds neighbours elsewhere.
_MOST_ALIKE = 8
#: Patches of a block, at most, and bytes of their thumbnails; small scans are a single block.
_BLOCK, _BLOCK_BYTES = 4096, 2**25

#: Pairs of patches, the first of each in one block; and the sum of first · second*.
_Pairs = tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.complex128]]


class PhaseAlignment:
    """Compare patches with their neighbours as they come, then solve for their phases.

    Patches are compared by thumbnails: weighted sums over cells of the object's grid, a twelfth
    of their size. A block is solved when its patches and their neighbours have come, and its
    thumbnails are dropped: where patches come in an order that follows the scan area, few are
    in memory at a time.

    `weight` (N, N): trust in each patch pixel.
    `positions` (M, 2): centres (x, y) of all patches that will come, in pixels; best in an order
        that follows the scan area.
    `per_block`: patches of a block, at most; None decides by their size.
    """

    def __init__(
        self, weight: Tensor, positions: NDArray[np.float64], *, per_block: int | None = None
    ) -> None:
        self._positions = np.ascontiguousarray(positions, dtype=np.float64)
        self._window = support_window(weight)
        self._weight = (weight / weight.max())[self._window, self._window]
        self._edge = len(self._weight)
        self._middle = weight.shape[-1] // 2 - self._window.start
        # One cell more: patches begin anywhere within a cell.
        self._cells = self._edge // _CELL + 2
        self._sums = _summing_matrices(self._edge, self._cells).to(weight.device)
        self._thumbnails = np.empty((0, self._cells, self._cells), np.complex64)
        self._free: list[int] = []
        number = len(positions)
        self._slot = np.full(number, -1, np.int32)
        self._is_here = np.zeros(number, bool)
        self._phase = np.zeros(number, np.float32 if number > _BLOCK else np.float64)
        self._tree = cKDTree(self._positions) if number else None
        self._count = _neighbour_count(self._positions)
        limit = _BLOCK_BYTES // (8 * self._cells**2)
        self._block = _blocks(self._positions, per_block or min(max(limit, 256), _BLOCK))
        self._num_blocks = int(self._block.max()) + 1 if number else 0
        self._is_solved = np.zeros(self._num_blocks, bool)
        self._order = np.argsort(self._block, kind="stable").astype(np.int32)
        self._bounds = np.searchsorted(self._block[self._order], np.arange(self._num_blocks + 1))
        self._find_outside()
        # Pairs whose second patch lies in a block that is not solved yet.
        self._waiting: dict[int, list[_Pairs]] = defaultdict(list)
        self._between: dict[tuple[int, int], complex] = defaultdict(complex)

    @property
    def num_patches(self) -> int:
        """Patches that will come, M."""
        return len(self._slot)

    @property
    def num_kept(self) -> int:
        """Thumbnails for which there is room in memory."""
        return len(self._thumbnails)

    def add(self, patches: Tensor, rows: NDArray[np.int64]) -> None:
        """Add patches.

        `patches` (B, N, N).
        `rows` (B,): which of the positions each lies at; none comes twice.
        """
        if not len(rows):
            return
        # Cells lie on the object's grid, so that those of two patches can be compared: where a
        # patch begins within a cell decides which of its pixels are summed together.
        lit = patches[:, self._window, self._window] * self._weight
        parts = torch.view_as_real(lit).flatten(2)
        inside = torch.as_tensor(self._corners(rows)[1], device=lit.device)
        cells = self._cells
        by_rows = torch.bmm(self._sums[inside[:, 0]], parts)
        by_rows = by_rows.reshape(-1, cells, self._edge, 2).movedim(3, 1).flatten(1, 2)
        sums = torch.bmm(by_rows, self._sums[inside[:, 1]].mT).reshape(-1, 2, cells, cells)
        # A patch that is not finite has no phase; it must not make those of others NaN.
        sums = sums.nan_to_num(0, 0, 0)
        slots = self._take_slots(len(rows))
        self._thumbnails[slots] = torch.complex(sums[:, 0], sums[:, 1]).cpu().numpy()
        self._slot[rows] = slots
        self._is_here[rows] = True
        # A block waits for its own patches and for those outside that are neighbours of them.
        np.subtract.at(self._missing, self._block[rows], 1)
        first = np.searchsorted(self._outside, rows, "left")
        last = np.searchsorted(self._outside, rows, "right")
        for start, end in zip(first.tolist(), last.tolist(), strict=True):
            self._missing[self._asking[start:end]] -= 1
        for block in np.flatnonzero((self._missing == 0) & ~self._is_solved).tolist():
            self._solve_block(block)

    def solve(self) -> NDArray[np.float64]:
        """Solve for the phases of all patches.

        Returns (M,): phase to turn each patch by, in radians; the mean of those that came is zero,
            and so are the others.
        """
        for block in np.flatnonzero(~self._is_solved).tolist():
            self._solve_block(block)
        phases = self._phase.astype(np.float64)
        if self._num_blocks > 1:
            pairs = np.array(list(self._between), np.int64).reshape(-1, 2)
            overlap = np.array(list(self._between.values()), np.complex128)
            bounds = self._bounds[:-1]
            centres = np.add.reduceat(self._positions[self._order], bounds, axis=0)
            centres /= np.diff(self._bounds)[:, None]
            between = solve_phases(centres, pairs[:, 0], pairs[:, 1], overlap)
            phases += between[self._block]
        if self._is_here.any():
            phases -= phases[self._is_here].mean()
        phases[~self._is_here] = 0
        return phases

    def _members(self, block: int) -> NDArray[np.int64]:
        return self._order[self._bounds[block] : self._bounds[block + 1]].astype(np.int64)

    def _corners(self, rows: NDArray[np.int64]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """Cell (R, 2) in which each patch begins, and the pixel within it."""
        corners, _ = patch_corners(np.round(self._positions[rows]), 2 * self._middle)
        cell, inside = np.divmod(corners, _CELL)
        return cell, inside

    def _pairs(self, members: NDArray[np.int64]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """Pair patches with their nearest neighbours (itself may be among them)."""
        assert self._tree is not None
        _, near = self._tree.query(self._positions[members], k=np.arange(1, self._count + 1))
        return np.repeat(members, self._count), near.ravel()

    def _find_outside(self) -> None:
        """Find what each block waits for, and how many blocks need each patch."""
        self._missing = np.diff(self._bounds).astype(np.int64)
        self._needed = np.ones(len(self._slot), np.int16)
        self._outside_of = [np.empty(0, np.int64)] * self._num_blocks
        for block in range(self._num_blocks if self._num_blocks > 1 else 0):
            _, near = self._pairs(self._members(block))
            self._outside_of[block] = outside = np.unique(near[self._block[near] != block])
            self._missing[block] += len(outside)
            self._needed[outside] += 1
        every = np.concatenate([np.empty(0, np.int64), *self._outside_of])
        order = np.argsort(every, kind="stable")
        self._outside = every[order]
        lengths = [len(outside) for outside in self._outside_of]
        self._asking = np.repeat(np.arange(self._num_blocks), lengths)[order]

    def _solve_block(self, block: int) -> None:
        """Find the phases within a block, and sum up its overlaps with other blocks."""
        members = self._members(block)
        asked = np.concatenate([members, self._outside_of[block]])
        self._is_solved[block] = True
        here = np.sort(asked[self._is_here[asked]])
        if len(here):
            # Neighbours outside are solved for too, so that no patch at the block's border is
            # tied to it by a single pair, or by none.
            first, second = self._pairs(here)
            place = np.minimum(np.searchsorted(here, second), len(here) - 1)
            usable = (first != second) & (here[place] == second)
            first, second = first[usable], second[usable]
            # Each pair once, whichever found the other; the block's own patch first.
            pairs = np.minimum(first, second) * len(self._slot) + np.maximum(first, second)
            first, second = np.divmod(np.unique(pairs), len(self._slot))
            swaps = self._block[first] != block
            first[swaps], second[swaps] = second[swaps], first[swaps]
            overlap = self._compare(first, second)
            phases = solve_phases(
                self._positions[here],
                np.searchsorted(here, first),
                np.searchsorted(here, second),
                overlap,
            )
            own = self._block[here] == block
            self._phase[here[own]] = phases[own]
            across = (self._block[first] == block) & (self._block[second] != block)
            self._keep_between(first[across], second[across], overlap[across])
        for pairs in self._waiting.pop(block, []):
            self._keep_between(*pairs)
        self._needed[asked] -= 1
        done = asked[(self._needed[asked] <= 0) & (self._slot[asked] >= 0)]
        self._free += self._slot[done].tolist()
        self._slot[done] = -1

    def _keep_between(
        self,
        first: NDArray[np.int64],
        second: NDArray[np.int64],
        overlap: NDArray[np.complex128],
    ) -> None:
        """Add up the overlaps of pairs across blocks: one sum for each pair of blocks."""
        theirs = self._block[second]
        for other in np.unique(theirs).tolist():
            mine = theirs == other
            a, b, sums = first[mine], second[mine], overlap[mine]
            if not self._is_solved[other]:
                self._waiting[other].append((a, b, sums))
                continue
            # The phases within both blocks are known: what is left is one phase between them.
            sums = sums * np.exp(1j * (self._phase[a].astype(np.float64) - self._phase[b]))
            blocks = self._block[a]
            for own in np.unique(blocks).tolist():
                self._between[own, other] += complex(sums[blocks == own].sum())

    def _take_slots(self, number: int) -> list[int]:
        if len(self._free) < number:
            old = len(self._thumbnails)
            more = max(number, old // 2)
            room = np.empty((more, self._cells, self._cells), np.complex64)
            self._thumbnails = np.concatenate([self._thumbnails, room])
            self._free += range(old, old + more)
        taken = self._free[-number:]
        del self._free[len(self._free) - number :]
        return taken

    def _compare(
        self, first: NDArray[np.int64], second: NDArray[np.int64]
    ) -> NDArray[np.complex128]:
        """Sum first · second* over the cells that both patches of each pair share."""
        overlap = np.zeros(len(first), np.complex128)
        if not len(first):
            return overlap
        steps = self._corners(second)[0] - self._corners(first)[0]
        # Pairs that lie alike share the same cells of their thumbnails: one product for all.
        order = np.lexsort(steps.T)
        bounds = np.flatnonzero((np.diff(steps[order], axis=0) != 0).any(axis=1)) + 1
        cells = self._cells
        for alike in np.split(order, bounds):
            down, right = (int(step) for step in steps[alike[0]])
            if max(abs(down), abs(right)) >= cells:
                continue
            top, left = max(down, 0), max(right, 0)
            height, width = cells - abs(down), cells - abs(right)
            a = self._thumbnails[self._slot[first[alike]], top : top + height, left : left + width]
            b = self._thumbnails[
                self._slot[second[alike]],
                top - down : top - down + height,
                left - right : left - right + width,
            ]
            overlap[alike] = np.einsum("nij,nij->n", a, b.conj())
        return overlap


def _neighbour_count(positions: NDArray[np.float64]) -> int:
    """Find how many nearest patches to look at, each itself among them."""
    number = len(positions)
    if not number:
        return 1
    # Patches at one and the same place must still find some elsewhere.
    alike = number // len(np.unique(positions[:, 0] + 1j * positions[:, 1]))
    return min(_NEIGHBOURS * min(alike, _MOST_ALIKE) + 1, number)


def _blocks(positions: NDArray[np.float64], per_block: int) -> NDArray[np.int32]:
    """Divide patches (M,) into blocks that lie together: runs of their order, where it does."""
    number = len(positions)
    count = -(-number // per_block)
    runs = np.arange(number) * count // max(number, 1)
    if count > 1:
        starts = np.flatnonzero(np.diff(runs, prepend=-1))
        sides = np.maximum.reduceat(positions, starts) - np.minimum.reduceat(positions, starts)
        sides /= np.maximum(np.ptp(positions, axis=0), 1e-9)
        # Runs that lie together tile the scan, and none is long and thin, as whole lines are.
        overlapping = count * sides.prod(axis=1).mean()
        length = np.sqrt(count) * sides.mean(axis=0).max()
        if overlapping > min(np.sqrt(count), 4) or length > 4:
            runs = runs_along_strips(positions, per_block)
    return runs.astype(np.int32)


def _summing_matrices(edge: int, cells: int) -> Tensor:
    """Matrices (cell, cells, edge) that sum over cells, for each place in the first cell."""
    pixel = torch.arange(edge)
    cell = (pixel + torch.arange(_CELL)[:, None]) // _CELL
    return (cell[:, None] == torch.arange(cells)[:, None]).float()
