"""More groups than positions: different combinations of each position's neighbours."""

from math import comb

import numpy as np
from numpy.typing import NDArray

from ptychostream.datasets.grouping.nearest import nearest_neighbors
from ptychostream.errors import DataContractError


def combination_groups(
    positions: NDArray[np.float64],
    num_groups: int,
    rng: np.random.Generator,
    *,
    group_size: int,
    pool_size: int,
) -> NDArray[np.int64]:
    """Draw groups, each of a centre and a combination of its neighbours, and none twice.

    Parameters
    ----------
    positions : (M, 2) float64
        Scan positions (x, y), in pixels.

    Returns
    -------
    (G, C) int64
        Rows of `positions`, the centre first.

    Raises
    ------
    DataContractError
        If there are not so many combinations.
    """
    every = np.arange(len(positions))
    neighbours = nearest_neighbors(positions, every, pool_size, group_size=group_size)
    pool = neighbours.shape[1]
    per_centre = comb(pool, group_size - 1)
    if num_groups > per_centre * len(positions):
        raise DataContractError(
            f"{num_groups} groups asked for, but {len(positions)} positions with {pool} neighbours "
            f"each have {per_centre * len(positions)}; raise neighbor_pool_size or ask for fewer"
        )
    if per_centre * len(positions) > np.iinfo(np.int64).max:
        raise DataContractError(
            f"neighbor_pool_size={pool} has more combinations than can be numbered; lower it"
        )
    centres, ranks = np.divmod(
        rng.choice(per_centre * len(positions), num_groups, replace=False), per_centre
    )
    chosen = combinations_of_rank(ranks, pool, group_size - 1)
    return np.column_stack([centres, neighbours[centres[:, None], chosen]])


def combinations_of_rank(ranks: NDArray[np.int64], pool: int, size: int) -> NDArray[np.int64]:
    """List the combinations that have these numbers, without listing all of them.

    Parameters
    ----------
    ranks : (G,) int64
        Numbers below pool choose size.

    Returns
    -------
    (G, size) int64
        Numbers from 0 to `pool` - 1, descending; a different combination for each rank.

    References
    ----------
    The combinatorial number system: Knuth, The Art of Computer Programming 4A, section 7.2.1.3.
    """
    left = ranks.copy()
    chosen = np.empty((len(ranks), size), dtype=np.int64)
    for place in range(size):
        # The largest c with (c choose remaining) <= what is left of the number.
        counts = np.array([comb(thing, size - place) for thing in range(pool)])
        chosen[:, place] = np.searchsorted(counts, left, side="right") - 1
        left -= counts[chosen[:, place]]
    return chosen
