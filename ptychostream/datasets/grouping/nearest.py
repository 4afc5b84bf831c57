"""Choose which neighbouring scan positions the model sees together."""

import logging

import numpy as np
from numpy.typing import NDArray

from ptychostream.datasets.grouping.neighbors_by_cell import neighbors_by_cell
from ptychostream.datasets.large_tables import blocks_of, new_table, row_numbers
from ptychostream.errors import DataContractError

logger = logging.getLogger(__name__)

#: Rows that are processed together.
_PART = 8192

#: Most positions that are searched through at once: their tree takes some 150 MB.
_IN_ONE_TREE = 2**22


def choose_centres(
    num_positions: int,
    num_groups: int | None,
    rng: np.random.Generator,
    *,
    sequential: bool,
) -> NDArray[np.int64]:
    """Choose the positions that groups are built around.

    Parameters
    ----------
    num_groups : int, optional
        Number of centres; None uses all, and so does a larger number, with a warning.

    Returns
    -------
    (S,) int64
        Rows, ascending.
    """
    if num_groups is not None and num_groups > num_positions:
        logger.warning(
            "%d groups asked for, but there are %d positions to draw them around: all are used; "
            "enable_oversampling draws more",
            num_groups,
            num_positions,
        )
    if num_groups is None or num_groups >= num_positions:
        return row_numbers(num_positions)
    if sequential:
        return np.arange(num_groups)
    return np.sort(rng.choice(num_positions, num_groups, replace=False))


def nearest_neighbors(
    positions: NDArray[np.float64],
    centres: NDArray[np.int64],
    neighbor_count: int,
    *,
    group_size: int,
) -> NDArray[np.integer]:
    """Find the nearest neighbours of centres (S,), rows of positions (M, 2).

    Returns
    -------
    (S, min(K, M - 1)) int
        Rows of `positions`, the nearest first; never the centre itself.

    Raises
    ------
    DataContractError
        If a scan has fewer than C positions, or K neighbours cannot fill a group.
    """
    from scipy.spatial import cKDTree

    if len(positions) < group_size:
        raise DataContractError(
            f"{len(positions)} scan positions cannot fill groups of {group_size}; "
            "use a smaller gridsize"
        )
    count = min(neighbor_count, len(positions) - 1)
    if count < group_size - 1:
        raise DataContractError(
            f"neighbor_count={neighbor_count} leaves {count} neighbours to draw "
            f"{group_size - 1} from; raise it"
        )
    if len(positions) > _IN_ONE_TREE:
        return neighbors_by_cell(positions, centres, count)
    tree = cKDTree(positions)
    found = np.empty((len(centres), count), dtype=np.int64)
    # In parts: the distances and neighbours of all centres take more memory than the result.
    for part in blocks_of(len(centres), _PART):
        _, near = tree.query(positions[centres[part]], k=np.arange(1, count + 2))
        # The centre is removed by its row: where positions coincide it need not come first.
        own = near == centres[part, None]
        own[~own.any(axis=1), -1] = True
        found[part] = near[~own].reshape(-1, count)
    return found


def nearest_neighbor_groups(
    positions: NDArray[np.float64],
    centres: NDArray[np.int64],
    rng: np.random.Generator,
    *,
    group_size: int,
    neighbor_count: int,
    groups_per_position: int = 1,
) -> NDArray[np.int64]:
    """Draw groups (G, C) of overlapping neighbours around centres (S,), rows of positions (M, 2).

    Raises
    ------
    DataContractError
        If a scan has fewer than C positions, or K neighbours cannot fill a group.

    Examples
    --------
    >>> square = np.array([[0, 0], [0, 1], [1, 0], [1, 1]], dtype=float)
    >>> rng = np.random.default_rng(0)
    >>> nearest_neighbor_groups(square, np.arange(4), rng, group_size=4, neighbor_count=3).shape
    (4, 4)
    """
    if group_size == 1:
        return single_groups(centres, groups_per_position)
    neighbours = nearest_neighbors(positions, centres, neighbor_count, group_size=group_size)
    return draw_members(centres, neighbours, rng, group_size, groups_per_position)


def single_groups(centres: NDArray[np.int64], times: int) -> NDArray[np.int64]:
    """Return groups (G, 1) of the centres alone, each of them so many times."""
    groups = new_table((len(centres), times), np.int64)
    for part in blocks_of(len(centres)):
        groups[part] = centres[part, None]
    return groups.reshape(-1, 1)


def draw_members(
    centres: NDArray[np.int64],
    neighbours: NDArray[np.integer],
    rng: np.random.Generator,
    group_size: int,
    groups_per_position: int,
) -> NDArray[np.int64]:
    """Draw the members of the groups of each centre from its neighbours, without replacement.

    Parameters
    ----------
    centres : (S,) int64
        Rows around which groups are drawn.
    neighbours : (S, K) int
        Rows to draw from; -1 is none. At least C - 1 of each centre are rows.
    """
    drawn = new_table((len(centres), groups_per_position, group_size), np.int64)
    drawn[:, :, 0] = centres[:, None]
    for turn in range(groups_per_position):
        for part in blocks_of(len(centres), _PART):
            # The smallest of K random keys are a draw without replacement.
            keys = rng.random(neighbours[part].shape, dtype=np.float32)
            keys[neighbours[part] < 0] = np.inf
            chosen = np.argpartition(keys, group_size - 2, axis=1)[:, : group_size - 1]
            drawn[part, turn, 1:] = np.take_along_axis(neighbours[part], chosen, axis=1)
    return drawn.reshape(-1, group_size)
