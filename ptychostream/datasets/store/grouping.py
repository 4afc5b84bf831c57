"""Choose which neighbouring scan positions the model sees together."""

import numpy as np
from numpy.typing import NDArray
from scipy.spatial import cKDTree

from ptychostream.errors import DataContractError


def choose_seeds(
    num_positions: int,
    num_groups: int | None,
    rng: np.random.Generator,
    *,
    sequential: bool,
) -> NDArray[np.int64]:
    """Choose the positions that groups are built around.

    Parameters
    ----------
    num_positions : int
        Positions M.
    num_groups : int, optional
        Seeds wanted; None, or more than there are, takes all.
    rng : numpy.random.Generator
        Source of the draw.
    sequential : bool
        Whether to take the first positions instead of a draw.

    Returns
    -------
    (S,) int64
        Rows, ascending.
    """
    if num_groups is None or num_groups >= num_positions:
        return np.arange(num_positions)
    if sequential:
        return np.arange(num_groups)
    return np.sort(rng.choice(num_positions, num_groups, replace=False))


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
    group_size : int
        Patterns per group, C.
    neighbor_count : int
        Nearest neighbours K, besides the seed itself, to draw from.
    groups_per_position : int
        Groups drawn around each seed.

    Returns
    -------
    (S * groups_per_position, C) int64
        Rows of `positions`, the seed first; no row twice in a group.

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
    _, near = cKDTree(positions).query(positions[seeds], k=np.arange(1, count + 2))
    # The seed itself is dropped by name: where positions coincide it need not come first.
    own = near == seeds[:, None]
    own[~own.any(axis=1), -1] = True
    neighbours = near[~own].reshape(len(seeds), count)
    drawn = np.empty((len(seeds), groups_per_position, group_size), dtype=np.int64)
    drawn[:, :, 0] = seeds[:, None]
    for turn in range(groups_per_position):
        # The smallest of K random keys are a draw without replacement.
        keys = rng.random(neighbours.shape, dtype=np.float32)
        chosen = np.argpartition(keys, group_size - 2, axis=1)[:, : group_size - 1]
        drawn[:, turn, 1:] = np.take_along_axis(neighbours, chosen, axis=1)
    return drawn.reshape(-1, group_size)
