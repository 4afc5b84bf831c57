"""Choose which neighbouring scan positions the model sees together."""

import logging

import numpy as np
from numpy.typing import NDArray
from scipy.spatial import cKDTree

from ptychostream.errors import DataContractError

logger = logging.getLogger(__name__)

#: Rows that are worked on at once.
_PART = 8192


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
        Seeds wanted; None takes all, and so do more than there are, with a warning.

    Returns
    -------
    (S,) int64
        Rows, ascending.
    """
    if num_groups is not None and num_groups > num_positions:
        logger.warning(
            "%d groups asked for, but there are %d positions to seed them: all of them do; "
            "enable_oversampling draws more",
            num_groups,
            num_positions,
        )
    if num_groups is None or num_groups >= num_positions:
        return np.arange(num_positions)
    if sequential:
        return np.arange(num_groups)
    return np.sort(rng.choice(num_positions, num_groups, replace=False))


def nearest_neighbors(
    positions: NDArray[np.float64],
    seeds: NDArray[np.int64],
    neighbor_count: int,
    *,
    group_size: int,
) -> NDArray[np.int64]:
    """Find the nearest neighbours of every seed, enough of them to fill its group.

    Parameters
    ----------
    positions : (M, 2) float64
        Scan positions (x, y), in pixels.
    seeds : (S,) int64
        Rows whose neighbours are wanted.

    Returns
    -------
    (S, min(K, M - 1)) int64
        Rows of `positions`, the nearest first; never the seed itself.

    Raises
    ------
    DataContractError
        If a scan has fewer than C positions, or K neighbours cannot fill a group.
    """
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
    tree = cKDTree(positions)
    found = np.empty((len(seeds), count), dtype=np.int64)
    # Part by part: distances and neighbours of all seeds would be larger than what is kept.
    for part in parts_of(len(seeds)):
        _, near = tree.query(positions[seeds[part]], k=np.arange(1, count + 2))
        # The seed itself is dropped by name: where positions coincide it need not come first.
        own = near == seeds[part, None]
        own[~own.any(axis=1), -1] = True
        found[part] = near[~own].reshape(-1, count)
    return found


def parts_of(number: int) -> list[slice]:
    """Split rows into parts of which temporary arrays are small."""
    return [slice(start, start + _PART) for start in range(0, number, _PART)]


def nearest_neighbor_groups(
    positions: NDArray[np.float64],
    seeds: NDArray[np.int64],
    rng: np.random.Generator,
    *,
    group_size: int,
    neighbor_count: int,
    groups_per_position: int = 1,
) -> NDArray[np.int64]:
    """Draw groups of overlapping neighbours around every seed.

    Parameters
    ----------
    positions : (M, 2) float64
        Scan positions (x, y), in pixels.
    seeds : (S,) int64
        Rows around which groups are drawn.
    rng : numpy.random.Generator
        Source of the draw; the same seed gives the same groups.

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
        return np.repeat(seeds, groups_per_position)[:, None]
    neighbours = nearest_neighbors(positions, seeds, neighbor_count, group_size=group_size)
    return draw_members(seeds, neighbours, rng, group_size, groups_per_position)


def draw_members(
    seeds: NDArray[np.int64],
    neighbours: NDArray[np.int64],
    rng: np.random.Generator,
    group_size: int,
    groups_per_position: int,
) -> NDArray[np.int64]:
    """Draw the members of each seed's groups from its neighbours, without replacement.

    Parameters
    ----------
    seeds : (S,) int64
        Rows around which groups are drawn.
    neighbours : (S, K) int64
        Rows to draw from; -1 is none. At least C - 1 of each seed's are rows.
    """
    drawn = np.empty((len(seeds), groups_per_position, group_size), dtype=np.int64)
    drawn[:, :, 0] = seeds[:, None]
    for turn in range(groups_per_position):
        for part in parts_of(len(seeds)):
            # The smallest of K random keys are a draw without replacement.
            keys = rng.random(neighbours[part].shape, dtype=np.float32)
            keys[neighbours[part] < 0] = np.inf
            chosen = np.argpartition(keys, group_size - 2, axis=1)[:, : group_size - 1]
            drawn[part, turn, 1:] = np.take_along_axis(neighbours[part], chosen, axis=1)
    return drawn.reshape(-1, group_size)
