"""Groups whose members lie between two distances from their centre."""

import logging

import numpy as np
from numpy.typing import NDArray

from ptychostream.datasets.grouping.nearest import draw_members, single_groups
from ptychostream.errors import DataContractError

logger = logging.getLogger(__name__)

#: Distances computed together: 4 million are some 100 MB with their rows.
_BLOCK = 4_000_000


def min_distance_groups(
    positions: NDArray[np.float64],
    centres: NDArray[np.int64],
    rng: np.random.Generator,
    *,
    group_size: int,
    neighbor_count: int,
    groups_per_position: int = 1,
    min_distance: float = 0.0,
    max_distance: float | None = None,
) -> NDArray[np.int64]:
    """Draw groups around centres (S,) of the nearest neighbours between two distances in pixels.

    Parameters
    ----------
    neighbor_count : int
        Neighbours K between the distances, besides the centre itself, to draw from.

    Returns
    -------
    (G, C) int64
        Rows of `positions`, the centre first; no row twice in a group. Centres with fewer
        than C - 1 such neighbours are left out, with a warning.

    Raises
    ------
    DataContractError
        If no centre has enough neighbours.
    """
    if group_size == 1:
        return single_groups(centres, groups_per_position)
    if neighbor_count < group_size - 1:
        raise DataContractError(
            f"neighbor_count={neighbor_count} leaves {neighbor_count} neighbours to draw "
            f"{group_size - 1} from; raise it"
        )
    neighbours = _neighbors_between(positions, centres, neighbor_count, min_distance, max_distance)
    enough = (neighbours >= 0).sum(axis=1) >= group_size - 1
    between = f"{min_distance} and {'any' if max_distance is None else max_distance} px"
    if not enough.any():
        raise DataContractError(
            f"no position has {group_size - 1} neighbours between {between}; widen the distances"
        )
    if not enough.all():
        logger.warning(
            "%d of %d positions are no centre of a group: fewer than %d neighbours lie between %s",
            np.count_nonzero(~enough),
            len(centres),
            group_size - 1,
            between,
        )
    return draw_members(centres[enough], neighbours[enough], rng, group_size, groups_per_position)


def _neighbors_between(
    positions: NDArray[np.float64],
    centres: NDArray[np.int64],
    wanted: int,
    low: float,
    high: float | None,
) -> NDArray[np.int64]:
    """Find the nearest rows (S, K) between two distances; -1 where there are no more."""
    from scipy.spatial import cKDTree

    # How many positions lie nearer than `low` differs from centre to centre: search for K + 1, then
    # for twice as many where too few of them lie beyond `low`.
    found = np.full((len(centres), wanted), -1, dtype=np.int64)
    tree = cKDTree(positions)
    # The tree's own limit is exclusive.
    limit = np.inf if high is None else np.nextafter(high, np.inf)
    open_centres = np.arange(len(centres))
    looked_at = min(wanted + 1, len(positions))
    while len(open_centres):
        unfinished = []
        for some in np.array_split(open_centres, -(-len(open_centres) * looked_at // _BLOCK)):
            distance, near = tree.query(
                positions[centres[some]],
                k=np.arange(1, looked_at + 1),
                distance_upper_bound=limit,
            )
            fits = (distance >= low) & np.isfinite(distance) & (near != centres[some, None])
            # Those that fit come first, still in order of their distance.
            order = np.argsort(~fits, axis=1, kind="stable")[:, :wanted]
            rows = np.where(
                np.take_along_axis(fits, order, axis=1),
                np.take_along_axis(near, order, axis=1),
                -1,
            )
            found[some, : rows.shape[1]] = rows
            exhausted = ~np.isfinite(distance[:, -1]) | (looked_at == len(positions))
            unfinished.append(some[(fits.sum(axis=1) < wanted) & ~exhausted])
        open_centres = np.concatenate(unfinished)
        looked_at = min(2 * looked_at, len(positions))
    return found
