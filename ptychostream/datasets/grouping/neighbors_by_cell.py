"""Nearest neighbours of very many positions, cell by cell: memory for one cell's tree at a time."""

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ptychostream.datasets.large_tables import blocks_of, new_table, row_type, sorted_rows

#: Positions of a cell, about: their tree takes some 10 MB.
_PER_CELL = 2**18

#: Positions that the borders between cells are taken from.
_SAMPLE = 2**16

#: Centres that are processed together.
_PART = 8192


@dataclass(frozen=True, eq=False)
class Cells:
    """Positions by rectangles that hold about as many each.

    Attributes
    ----------
    rows : (M,) int
        Rows of the positions, cell by cell, ascending in each.
    starts : (cells + 1,) int64
        Where the rows of each cell begin.
    low, high : (cells, 2) float64
        Least and largest x and y of the positions in each cell; an empty one is nowhere.
    """

    rows: NDArray[np.integer]
    starts: NDArray[np.int64]
    low: NDArray[np.float64]
    high: NDArray[np.float64]

    def __len__(self) -> int:
        return len(self.low)

    def rows_of(self, cell: int) -> NDArray[np.integer]:
        """Return the rows of the positions in a cell."""
        return self.rows[self.starts[cell] : self.starts[cell + 1]]

    def distances(self, points: NDArray[np.float64]) -> NDArray[np.float64]:
        """Return the distances (B, cells) of points (B, 2) from all cells; 0 inside of one."""
        outside = np.maximum(self.low - points[:, None], points[:, None] - self.high)
        return np.hypot(*np.moveaxis(np.maximum(outside, 0), -1, 0))


def cells_of(positions: NDArray[np.float64], per_cell: int = _PER_CELL) -> Cells:
    """Divide positions (M, 2) into strips along y, and these into cells."""
    number = len(positions)
    strips = max(1, round(np.sqrt(number / per_cell)))
    per_strip = max(1, -(-number // (per_cell * strips)))
    # Of equal numbers by a sample: that many positions are not sorted for it.
    sample = positions[np.random.default_rng(0).integers(number, size=min(number, _SAMPLE))]
    shares = np.arange(1, strips) / strips
    borders = np.quantile(sample[:, 0], shares)
    in_strip = np.searchsorted(borders, sample[:, 0], side="right")
    across = np.zeros((strips, per_strip - 1))
    for strip in range(strips):
        here = sample[in_strip == strip, 1]
        if len(here):
            across[strip] = np.quantile(here, np.arange(1, per_strip) / per_strip)

    def cell_of(rows: slice) -> NDArray[np.int64]:
        x, y = positions[rows].T
        strip = np.searchsorted(borders, x, side="right")
        cell = strip * per_strip
        for border in across.T:
            cell += y >= border[strip]
        return cell

    rows, starts = sorted_rows(cell_of, number, strips * per_strip)
    low = np.full((strips * per_strip, 2), np.inf)
    high = np.full((strips * per_strip, 2), -np.inf)
    for cell in np.flatnonzero(np.diff(starts)):
        here = positions[rows[starts[cell] : starts[cell + 1]]]
        low[cell], high[cell] = here.min(axis=0), here.max(axis=0)
    return Cells(rows, starts, low, high)


def neighbors_by_cell(
    positions: NDArray[np.float64],
    centres: NDArray[np.int64],
    count: int,
    *,
    per_cell: int = _PER_CELL,
) -> NDArray[np.integer]:
    """Find the nearest neighbours (S, count) of centres (S,), ascending rows of positions (M, 2).

    They are those that one search through all positions finds; of several at the same distance,
    where not all of them are taken, they may be others.
    """
    from scipy.spatial import cKDTree

    cells = cells_of(positions, per_cell)
    found = new_table((len(centres), count), row_type(len(positions)))
    if not len(centres):
        return found
    beyond = _BeyondCell(cells, count)
    for cell in range(len(cells)):
        rows = cells.rows_of(cell)
        mine, places = _among(centres, rows)
        if not len(mine):
            continue
        tree = cKDTree(positions[rows])
        for part in blocks_of(len(mine), _PART):
            points = positions[mine[part]]
            distances, near = _others(tree, points, rows, mine[part], count)
            found[places[part]] = near
            beyond.add(cell, places[part], points, distances, near)
    # A centre near the border of its cell has neighbours in others.
    beyond.join()
    for cell in range(len(cells)):
        asking = beyond.asking(cell)
        if not len(asking):
            continue
        rows = cells.rows_of(cell)
        tree = cKDTree(positions[rows])
        for part in blocks_of(len(asking), _PART):
            points = positions[centres[beyond.places[asking[part]]]]
            distances, near = tree.query(points, k=np.arange(1, count + 1))
            missing = near == len(rows)
            beyond.merge(asking[part], distances, rows[np.where(missing, 0, near)])
    for part in blocks_of(len(beyond.places)):
        found[beyond.places[part]] = beyond.near[part]
    return found


def _among(
    centres: NDArray[np.int64], rows: NDArray[np.integer]
) -> tuple[NDArray[np.integer], NDArray[np.integer]]:
    """Return those of the rows that are centres, and their places among the centres."""
    places = np.searchsorted(centres, rows)
    is_centre = centres[np.minimum(places, len(centres) - 1)] == rows
    return rows[is_centre], places[is_centre]


def _others(
    tree: Any,
    points: NDArray[np.float64],
    rows: NDArray[np.integer],
    own_rows: NDArray[np.integer],
    count: int,
) -> tuple[NDArray[np.float64], NDArray[np.integer]]:
    """Find distances and rows (B, count) nearest to points, without the points themselves."""
    distances, near = tree.query(points, k=np.arange(1, count + 2))
    near = np.append(rows, -1)[near]  # what the tree does not have comes last, infinitely far
    own = near == own_rows[:, None]
    own[~own.any(axis=1), -1] = True
    return distances[~own].reshape(-1, count), near[~own].reshape(-1, count)


class _BeyondCell:
    """Centres that may have nearer neighbours in other cells than in their own."""

    def __init__(self, cells: Cells, count: int) -> None:
        self._cells, self._count, self._number = cells, count, 0
        self._parts: list[tuple[NDArray[Any], ...]] = []
        self._asking: list[list[NDArray[np.int64]]] = [[] for _ in range(len(cells))]

    def add(
        self,
        cell: int,
        places: NDArray[np.integer],
        points: NDArray[np.float64],
        distances: NDArray[np.float64],
        near: NDArray[np.integer],
    ) -> None:
        """Remember those centres in a cell whose farthest neighbour is farther than its border."""
        cells = self._cells
        inside = np.minimum(points - cells.low[cell], cells.high[cell] - points).min(axis=1)
        open_ones = np.flatnonzero(distances[:, -1] > inside)
        reached = cells.distances(points[open_ones]) < distances[open_ones, -1:]
        reached[:, cell] = False
        asks = reached.any(axis=1)
        open_ones, reached = open_ones[asks], reached[asks]
        self._parts.append((places[open_ones], distances[open_ones], near[open_ones]))
        for other in np.flatnonzero(reached.any(axis=0)):
            self._asking[other].append(self._number + np.flatnonzero(reached[:, other]))
        self._number += len(open_ones)

    def join(self) -> None:
        """Make one table of what was added."""
        parts = zip(*self._parts, strict=True)
        self.places, self.distances, self.near = (np.concatenate(part) for part in parts)
        self._parts.clear()

    def asking(self, cell: int) -> NDArray[np.int64]:
        """Return the numbers of those that ask a cell for neighbours."""
        return np.concatenate([np.empty(0, np.int64), *self._asking[cell]])

    def merge(
        self,
        numbers: NDArray[np.int64],
        distances: NDArray[np.float64],
        near: NDArray[np.integer],
    ) -> None:
        """Keep the nearest of the neighbours that were found so far and those of another cell."""
        all_distances = np.concatenate([self.distances[numbers], distances], axis=1)
        all_near = np.concatenate([self.near[numbers], near], axis=1)
        nearest = np.argsort(all_distances, axis=1, kind="stable")[:, : self._count]
        self.distances[numbers] = np.take_along_axis(all_distances, nearest, axis=1)
        self.near[numbers] = np.take_along_axis(all_near, nearest, axis=1)
