"""More groups than positions: different combinations of each position's neighbours."""

from itertools import combinations
from math import comb

import numpy as np
from numpy.typing import NDArray
from scipy.spatial import cKDTree

from ptychostream.errors import DataContractError


def combination_groups(
    positions: NDArray[np.float64],
    num_groups: int,
    rng: np.random.Generator,
    *,
    group_size: int,
    pool_size: int,
) -> NDArray[np.int64]:
    """Draw groups, each of a seed position and a combination of its neighbours; none comes twice.

    Parameters
    ----------
    positions : (M, 2) float64
        Scan positions (x, y), in pixels.
    num_groups : int
        Groups wanted.
    rng : numpy.random.Generator
        Source of the draw.
    group_size : int
        Patterns per group, C.
    pool_size : int
        Nearest neighbours K of a seed that are combined.

    Returns
    -------
    (G, C) int64
        Rows of `positions`, the seed first.

    Raises
    ------
    DataContractError
        If there are not so many combinations.
    """
    pool = min(pool_size, len(positions) - 1)
    per_seed = comb(pool, group_size - 1)
    if num_groups > per_seed * len(positions):
        raise DataContractError(
            f"{num_groups} groups asked for, but {len(positions)} positions with {pool} neighbours "
            f"each have {per_seed * len(positions)}; raise neighbor_pool_size or ask for fewer"
        )
    seeds, chosen = np.divmod(
        rng.choice(per_seed * len(positions), num_groups, replace=False), per_seed
    )
    _, near = cKDTree(positions).query(positions, k=np.arange(1, pool + 2))
    own = near == np.arange(len(positions))[:, None]
    own[~own.any(axis=1), -1] = True
    neighbours = near[~own].reshape(len(positions), pool)
    choices = np.array(list(combinations(range(pool), group_size - 1)))
    return np.column_stack([seeds, neighbours[seeds[:, None], choices[chosen]]])
