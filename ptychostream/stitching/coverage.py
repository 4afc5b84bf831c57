"""Which patterns have a patch in an object, and how many cover each of its pixels."""

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from ptychostream.stitching.canvas import HostCanvas

#: Patches whose areas are counted at once.
_BLOCK = 1024


class Coverage:
    """Count patches as they are added: each pattern covers the object once, also if added again.

    `area` (n, n): one where a patch covers the object.
    `num_patches`, `num_duplicates`, `num_clipped`, `num_dropped`: patches used; those of a pattern
        that had come before; those of which a part lies outside the grid; those that were left out
        altogether.
    """

    def __init__(self, area: Tensor) -> None:
        self.area = area
        self._seen = np.zeros(0, bool)
        # Corners of the covering areas, in one table that doubles when it is full.
        self._corners = np.zeros((0, 2), np.int64)
        self._num_corners = 0
        self.num_patches = self.num_duplicates = self.num_clipped = self.num_dropped = 0

    def add(
        self,
        corners: NDArray[np.int64],
        used: NDArray[np.bool_],
        clipped: NDArray[np.bool_],
        rows: NDArray[np.int64] | None,
    ) -> None:
        """Count patches (B,) by what became of them; None takes all as different patterns."""
        self.num_patches += int(used.sum())
        self.num_dropped += int((~used).sum())
        self.num_clipped += int((used & clipped).sum())
        new = used
        if rows is not None and len(rows):
            self._make_room(int(rows.max()) + 1)
            # The first of each pattern in this batch, unless an earlier batch had one.
            first = np.zeros(len(rows), bool)
            used_rows = np.flatnonzero(used)
            first[used_rows[np.unique(rows[used_rows], return_index=True)[1]]] = True
            new = used & first & ~self._seen[rows]
            self._seen[rows[used]] = True
            self.num_duplicates += int((used & ~new).sum())
        number = self._num_corners + int(new.sum())
        if number > len(self._corners):
            self._corners = np.concatenate([self._corners, np.zeros((number, 2), np.int64)])
        self._corners[self._num_corners : number] = corners[new]
        self._num_corners = number

    def _make_room(self, number: int) -> None:
        missing = number - len(self._seen)
        if missing > 0:
            self._seen = np.pad(self._seen, (0, missing + len(self._seen)))

    def has_patch(self, rows: NDArray[np.int64]) -> NDArray[np.bool_]:
        """Return of which patterns (R,) a patch was added."""
        known = np.zeros(len(rows), bool)
        within = rows < len(self._seen)
        known[within] = self._seen[rows[within]]
        return known

    def count(self, canvas: HostCanvas) -> NDArray[np.float32]:
        """Add the areas of all patterns into an empty canvas, and return it (H, W)."""
        for start in range(0, self._num_corners, _BLOCK):
            corners = self._corners[start : min(start + _BLOCK, self._num_corners)]
            canvas.add(self.area.expand(len(corners), -1, -1), corners)
        return canvas.values()
