"""Find the global phase of every patch from its overlap with its neighbours.

A diffraction pattern does not know the global phase of its patch: object features wider than
the beam show only in the phases between patches. They are found for the whole scan at once,
as the least-squares solution of all phase differences between neighbours.
"""

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import coo_matrix, csr_matrix, identity
from scipy.sparse.linalg import spsolve
from scipy.spatial import cKDTree
from torch import Tensor

from ptychostream.geometry import patch_corners

#: Edge of the cells in which patches are compared, in pixels.
_CELL = 4
#: Neighbours that each patch is compared with.
_NEIGHBOURS = 8
#: Rounds of wrapping phase differences into (-π, π] around the solution so far.
_ROUNDS = 3
#: Pull of every patch towards its own phase, relative to the pull of its neighbours.
_ANCHOR = 1e-4


class PhaseAlignment:
    """Collect thumbnails of patches as they come, then solve for their phases.

    A thumbnail is the weighted patch summed over cells of the object's grid: a twelfth of
    its size, so that patches themselves need not be kept.

    Parameters
    ----------
    weight : (N, N) float32
        Trust in each patch pixel.
    """

    def __init__(self, weight: Tensor) -> None:
        self._weight = weight / weight.max()
        edge = weight.shape[-1]
        # One cell more: patches begin anywhere within a cell.
        self._cells = edge // _CELL + 2
        self._thumbnails: list[NDArray[np.complex64]] = []
        self._corners: list[NDArray[np.int64]] = []
        self._positions: list[NDArray[np.float64]] = []

    def add(self, patches: Tensor, positions: NDArray[np.float64]) -> None:
        """Add patches.

        Parameters
        ----------
        patches : (B, N, N) complex64
            Object patches.
        positions : (B, 2) float64
            Their centres (x, y), in pixels.
        """
        edge = patches.shape[-1]
        corners, _ = patch_corners(np.round(positions), edge)
        cell, inside = np.divmod(corners, _CELL)
        size = self._cells * _CELL
        canvas = patches.new_zeros(len(patches), size, size)
        weighted = patches * self._weight
        # Patches with the same place inside their cells are put down together.
        for row, column in np.unique(inside, axis=0):
            here = np.flatnonzero((inside == (row, column)).all(axis=1))
            canvas[here, row : row + edge, column : column + edge] = weighted[here]
        sums = canvas.reshape(-1, self._cells, _CELL, self._cells, _CELL).sum(dim=(2, 4))
        self._thumbnails.append(sums.cpu().numpy())
        self._corners.append(cell)
        self._positions.append(np.asarray(positions))

    def solve(self) -> NDArray[np.float64]:
        """Solve for the phases of all patches.

        Returns
        -------
        (M,) float64
            Phase to turn each patch by, in radians, in the order in which they were added;
            their mean is zero.
        """
        if not self._thumbnails:
            return np.zeros(0)
        thumbnails = np.concatenate(self._thumbnails)
        number = len(thumbnails)
        if number == 1:
            return np.zeros(1)
        positions, corners = np.concatenate(self._positions), np.concatenate(self._corners)
        count = min(_NEIGHBOURS + 1, number)
        _, near = cKDTree(positions).query(positions, k=np.arange(1, count + 1))
        first = np.repeat(np.arange(number), count)
        second = near.ravel()
        # Each pair once, whichever found the other.
        pairs = np.unique(np.sort(np.stack([first, second], axis=1), axis=1), axis=0)
        first, second = pairs[pairs[:, 0] != pairs[:, 1]].T
        overlap = self._overlaps(thumbnails, corners, first, second)
        return _least_squares(number, first, second, overlap)

    def _overlaps(
        self,
        thumbnails: NDArray[np.complex64],
        corners: NDArray[np.int64],
        first: NDArray[np.int64],
        second: NDArray[np.int64],
    ) -> NDArray[np.complex128]:
        """Sum first · second* over the cells that both patches of each pair share."""
        cells = self._cells
        overlap = np.zeros(len(first), np.complex128)
        steps = corners[second] - corners[first]
        for down, right in np.unique(steps, axis=0):
            if max(abs(down), abs(right)) >= cells:
                continue
            here = np.flatnonzero((steps == (down, right)).all(axis=1))
            top, left = max(down, 0), max(right, 0)
            height, width = cells - abs(down), cells - abs(right)
            a = thumbnails[first[here], top : top + height, left : left + width]
            b = thumbnails[
                second[here],
                top - down : top - down + height,
                left - right : left - right + width,
            ]
            overlap[here] = np.einsum("nij,nij->n", a, b.conj())
        return overlap


def _least_squares(
    number: int,
    first: NDArray[np.int64],
    second: NDArray[np.int64],
    overlap: NDArray[np.complex128],
) -> NDArray[np.float64]:
    """Minimise Σ |overlap| · (phase[second] - phase[first] - arg overlap)²."""
    weight = np.abs(overlap)
    if not weight.any():
        return np.zeros(number)
    weight = weight / weight.mean()
    edges = np.arange(len(first))
    ones = np.ones(len(first))
    difference: csr_matrix = (
        coo_matrix((ones, (edges, second)), (len(first), number))
        - coo_matrix((ones, (edges, first)), (len(first), number))
    ).tocsr()
    weighted = difference.T.multiply(weight).tocsr()
    system = (weighted @ difference + _ANCHOR * identity(number)).tocsc()
    phase = np.zeros(number)
    for _ in range(_ROUNDS):
        rest = np.angle(overlap * np.exp(-1j * (phase[second] - phase[first])))
        phase = phase + spsolve(system, weighted @ rest)
    return np.asarray(phase - phase.mean())
