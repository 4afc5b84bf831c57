"""Groups of four with one member in each quadrant around their centre."""

import numpy as np
from numpy.typing import NDArray

from ptychostream.datasets.grouping.nearest import nearest_neighbors

#: Quadrants, in the order of a group's members.
_QUADRANTS = 4


def four_quadrant_groups(
    positions: NDArray[np.float64],
    centres: NDArray[np.int64],
    rng: np.random.Generator,
    *,
    neighbor_count: int,
    groups_per_position: int = 1,
    held_out: int = 0,
) -> NDArray[np.int64]:
    """Draw groups of four, in the order (-x, +y), (+x, +y), (-x, -y), (+x, -y) around centres (S,).

    The centre stands for one quadrant: for an empty one at the border of a scan, for any one
    elsewhere. If more are empty, as at a corner, the nearest remaining neighbours fill them.

    Returns
    -------
    (S * groups_per_position, 4 + held_out) int64
        Rows of `positions`; no row twice in a group, and the centre in each.

    Raises
    ------
    DataContractError
        If there are too few positions or neighbours.
    """
    size = _QUADRANTS + held_out
    neighbours = nearest_neighbors(positions, centres, neighbor_count, group_size=size)
    quadrant = _quadrants(positions[neighbours] - positions[centres, None])
    inside = [quadrant == number for number in range(_QUADRANTS)]
    filled = np.stack([some.any(axis=1) for some in inside], axis=1)
    every = np.arange(len(centres))
    drawn = np.empty((len(centres), groups_per_position, size), dtype=np.int64)
    # The smallest random key among a quadrant's neighbours is a uniform draw of one of them, for
    # all centres at once; the centre itself takes the quadrant with the largest number.
    for turn in range(groups_per_position):
        keys = rng.random(neighbours.shape, dtype=np.float32)
        # An empty quadrant is preferred to one that has a neighbour.
        own = (rng.random(filled.shape, dtype=np.float32) + ~filled).argmax(axis=1)
        taken = np.zeros(neighbours.shape, dtype=bool)
        chosen = np.full((len(centres), size), -1, dtype=np.int64)
        chosen[every, own] = centres
        for number, some in enumerate(inside):
            here = np.flatnonzero(filled[:, number] & (own != number))
            best = np.where(some[here], keys[here], np.inf).argmin(axis=1)
            chosen[here, number] = neighbours[here, best]
            taken[here, best] = True
        for number in range(size):
            here = np.flatnonzero(chosen[:, number] < 0)
            # The nearest fills an empty quadrant; held-out neighbours are drawn.
            left = np.where(taken[here], np.inf, keys[here] if number >= _QUADRANTS else 0)
            best = left.argmin(axis=1)
            chosen[here, number] = neighbours[here, best]
            taken[here, best] = True
        drawn[:, turn] = chosen
    return drawn.reshape(-1, size)


def _quadrants(offsets: NDArray[np.float64]) -> NDArray[np.int64]:
    """Return the quadrant of each offset (..., 2); each axis belongs to one of them."""
    x, y = offsets[..., 0], offsets[..., 1]
    return np.select([(x <= 0) & (y > 0), (x < 0) & (y <= 0), (x >= 0) & (y < 0)], [0, 2, 3], 1)
