"""Which patterns, and which pixels of the canvas, each of several processes has."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ptychostream.errors import ConfigurationError
from ptychostream.geometry import ObjectGrid
from ptychostream.scratch import allocate
from ptychostream.solver.boxes import Box
from ptychostream.solver.fast_length import fast_length
from ptychostream.solver.layout import MARGIN, PatchLayout
from ptychostream.solver.ranks import Ranks

#: Farther than any position.
_FAR = 2**62

#: Pixels of an image that are sent together.
_PIECE = 2**23


class Tiles:
    """The patterns and the pixels of each of several processes; of one process, all.

    Each pixel of the canvas belongs to one process, and each pattern too: the positions are
    halved again and again. A process holds a box with its own pixels, a rim around them that the
    smoothness prior reaches over, and all patches of its patterns. Where boxes overlap, an update
    needs two exchanges: before it, each process fetches the object of the pixels that others own;
    after the patterns, what patches add to others' pixels is sent to them.

    `positions` (M, 2): scan positions (x, y), in pixels; the same in each process.
    `ranks`: the processes; None is this one alone.
    `boxes`, `owned`: the pixels that each process holds, and those that belong to it, from `place`
        on.
    """

    def __init__(self, positions: NDArray[np.float64], ranks: Ranks | None = None) -> None:
        self.ranks = ranks or Ranks()
        size, number = self.ranks.size, len(positions)
        if size > number:
            raise ConfigurationError(
                f"{size} processes for {number} patterns: start at most {number} of them"
            )
        self.boxes: list[Box] = []
        self.owned: list[Box] = []
        self._rim = 0
        if size > 1:
            holder, self._regions = split(positions, size)
            self.is_mine = holder == self.ranks.number
            self._by_holder = np.argsort(holder, kind="stable")
            self._firsts = np.searchsorted(holder[self._by_holder], np.arange(size))

    def place(self, layout: PatchLayout, rim: int) -> bool:
        """Choose the boxes anew where patches or the rim do not fit; return whether they changed.

        The layout then has this process's box.
        """
        if self.ranks.size == 1:
            self.boxes = self.owned = [layout.whole]
            return False
        # One process decides: in another, positions may differ by rounding.
        found = self.ranks.of_first(None if self.ranks.number else self._boxes(layout, rim))
        if found is None:
            return False
        self.boxes, self._rim = found
        mine = layout.box = self.boxes[self.ranks.number]
        own = self.owned = [region & layout.whole for region in self._regions]
        # Sums are complete in the rim too: the prior's filter begins there.
        wide = [each.grown(self._rim) & layout.whole for each in own]
        number = self.ranks.number
        self._sums = [mine & each for each in wide], [each & wide[number] for each in self.boxes]
        self._copies = [own[number] & each for each in self.boxes], [mine & each for each in own]
        return True

    def _boxes(self, layout: PatchLayout, rim: int) -> tuple[list[Box], int] | None:
        """Return the boxes and their rim; None where those that there are do."""
        corner, _ = layout.corners(torch.arange(len(layout.positions)))
        corner += torch.tensor(layout.origin)
        first = corner.numpy()[self._by_holder]
        low = np.minimum.reduceat(first, self._firsts).tolist()
        high = (np.maximum.reduceat(first, self._firsts) + layout.edge).tolist()
        whole = layout.whole
        # A pixel for differences, and one for positions that differ by rounding.
        patches = [Box(*a, *b).grown(2) & whole for a, b in zip(low, high, strict=True)]
        fits = rim <= self._rim and all(map(Box.holds, self.boxes, patches))
        if fits and self.boxes:
            return None
        rim += rim // 4 + 1
        boxes = []
        for region, each in zip(self._regions, patches, strict=True):
            own = region & whole
            wide = own.grown(rim) if own.size else own
            boxes.append(_of_fast_shape((each.grown(MARGIN) | wide) & whole, whole))
        return boxes, rim

    def add(self, image: Tensor) -> None:
        """Add to this process's pixels, and to their rim, what others' patches gave, in place."""
        for place, part in self._swapped(image, *self._sums) if self.ranks.size > 1 else ():
            image[place] += part

    def fetch(self, image: Tensor) -> None:
        """Replace the pixels of others by what they have there, in place."""
        for place, part in self._swapped(image, *self._copies) if self.ranks.size > 1 else ():
            image[place] = part

    def _swapped(
        self, image: Tensor, given: list[Box], taken: list[Box]
    ) -> Iterator[tuple[tuple[slice, slice], Tensor]]:
        """Give parts of an image to others, and yield those taken from them, with their place."""
        number = self.ranks.number
        mine = self.boxes[number]
        gives, takes = (
            {peer: box.slices_in(mine) for peer, box in enumerate(boxes) if box.size}
            for boxes in (given, taken)
        )
        gives.pop(number, None)
        takes.pop(number, None)
        parts = {peer: torch.empty_like(image[place]) for peer, place in takes.items()}
        self.ranks.swap({peer: image[place] for peer, place in gives.items()}, parts)
        for peer, place in takes.items():
            yield place, parts[peer]

    @property
    def own(self) -> Box:
        """The pixels that belong to this process."""
        return self.owned[self.ranks.number]

    @property
    def own_slices(self) -> tuple[slice, slice]:
        """Rows and columns of this process's pixels in its box."""
        return self.own.slices_in(self.boxes[self.ranks.number])

    def part_of(self, grid: ObjectGrid) -> ObjectGrid:
        """Return the part of a grid that belongs to this process."""
        return grid if self.ranks.size == 1 else (self.own & Box.of_grid(grid)).grid

    def gathered(
        self, part: NDArray[Any], grid: ObjectGrid, *, beyond: float, folder: Path | None
    ) -> NDArray[Any]:
        """Return an image of a grid from its parts in the first process; in others their part.

        Pixels that belong to nobody are `beyond`. A folder is where a large image is kept.
        """
        if self.ranks.size == 1:
            return part
        if self.ranks.number:
            for rows in _pieces(part.shape):
                self.ranks.swap({0: torch.from_numpy(part[rows])}, {})
            return part
        area = Box.of_grid(grid)
        whole = allocate(grid.shape, part.dtype, folder)
        whole[:] = beyond
        for peer, box in enumerate(self.owned):
            rows, columns = (box & area).slices_in(area)
            there = whole[rows, columns]
            if peer == 0:
                there[:] = part
            for piece in _pieces(there.shape) if peer else ():
                taken = torch.from_numpy(np.empty(there[piece].shape, part.dtype))
                self.ranks.swap({}, {peer: taken})
                there[piece] = taken.numpy()
        return whole

    def dealt(
        self, obj: NDArray[np.complex64] | None, grid: ObjectGrid, layout: PatchLayout
    ) -> NDArray[np.complex64]:
        """Return the part of the first process's object, on a grid, that lies in this one's box."""
        area = Box.of_grid(grid)
        if obj is not None and self.ranks.number == 0:
            for peer, box in enumerate(self.boxes[1:], 1):
                part = obj[(box & area).slices_in(area)]
                for rows in _pieces(part.shape):
                    self.ranks.swap(
                        {peer: torch.from_numpy(np.array(part[rows], np.complex64))}, {}
                    )
            return obj[(layout.box & area).slices_in(area)]
        part = np.empty((layout.box & area).shape, np.complex64)
        for rows in _pieces(part.shape):
            self.ranks.swap({}, {0: torch.from_numpy(part[rows])})
        return part


def split(positions: NDArray[np.float64], size: int) -> tuple[NDArray[np.int64], list[Box]]:
    """Halve positions (M, 2) along their longer side until there are so many equal shares.

    Returns `holder` (M,): the share of each position.
    Returns `regions`: the pixels of each share; together all pixels, and none twice.
    """
    holder = np.zeros(len(positions), np.int64)
    regions: list[Box] = []

    def divide(rows: NDArray[np.int64], number: int, region: Box) -> None:
        if number == 1:
            holder[rows] = len(regions)
            regions.append(region)
            return
        along = positions[rows]
        axis = int(np.argmax(np.ptp(along, axis=0)))
        rows = rows[np.argsort(along[:, axis], kind="stable")]
        first = number // 2
        middle = len(rows) * first // number
        cut = int(np.ceil(positions[rows[middle - 1 : middle + 1], axis].mean()))
        left, top, right, bottom = region.left, region.top, region.right, region.bottom
        if axis == 0:
            halves = Box(left, top, cut, bottom), Box(cut, top, right, bottom)
        else:
            halves = Box(left, top, right, cut), Box(left, cut, right, bottom)
        divide(rows[:middle], first, halves[0])
        divide(rows[middle:], number - first, halves[1])

    divide(np.arange(len(positions)), size, Box(-_FAR, -_FAR, _FAR, _FAR))
    return holder, regions


def _of_fast_shape(box: Box, whole: Box) -> Box:
    """Grow a box, inside the whole canvas, to a shape that is transformed quickly."""
    ends = []
    for first, last, low, high in (
        (box.left, box.right, whole.left, whole.right),
        (box.top, box.bottom, whole.top, whole.bottom),
    ):
        length = min(fast_length(last - first), high - low)
        start = min(first, high - length)
        ends.append((start, start + length))
    (left, right), (top, bottom) = ends
    return Box(left, top, right, bottom)


def _pieces(shape: tuple[int, int]) -> Iterator[slice]:
    """Yield the rows of an image (H, W) that are sent together."""
    height, width = shape
    length = max(1, _PIECE // (width + 1))
    for top in range(0, height if width else 0, length):
        yield slice(top, top + length)
