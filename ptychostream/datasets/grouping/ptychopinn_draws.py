"""Groups drawn as PtychoPINN draws them, number for number.

The draws use NumPy's legacy generator. Programs that call raw data rely on the state of the global
one before and after, so for them it is used; nothing else in this library does. With these draws
a centre is not in its own group, and a position near the border may be in none.
"""

import itertools
import logging
import math
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from ptychostream.errors import DataContractError

logger = logging.getLogger(__name__)


class LegacyGenerator(Protocol):
    """What the module `numpy.random` and a `numpy.random.RandomState` have in common."""

    def seed(self, seed: Any = None) -> None:
        """Set the state by a seed."""

    def choice(self, a: Any, size: Any = None, replace: bool = True) -> Any:
        """Draw numbers below `a`."""

    def permutation(self, x: Any) -> Any:
        """Shuffle the numbers below `x`."""


def upstream_groups(
    positions: NDArray[np.float64],
    *,
    group_size: int,
    neighbor_count: int,
    num_groups: int,
    seed: int | None = None,
    sequential: bool = False,
    oversample: bool = False,
    pool_size: int | None = None,
    generator: LegacyGenerator,
) -> NDArray[np.int32] | NDArray[np.int64]:
    """Draw groups as PtychoPINN does.

    Parameters
    ----------
    positions : (M, 2) float64
        Scan positions (x, y), in pixels.
    num_groups : int
        Number of groups. More than M are possible with `oversample` only; groups of one pattern
        are capped at M.
    sequential : bool
        Whether the first positions are the centres; the generator is then seeded with 0, whatever
        `seed` is, unless more groups than positions are drawn.
    oversample : bool
        Whether more groups than positions may be drawn: combinations of C out of the pool.

    Returns
    -------
    (G, C) int32 or int64
        Rows of `positions`; int32 where groups are drawn around centres, as in PtychoPINN.

    Raises
    ------
    DataContractError
        If groups can't be filled, or more of them are asked for than there can be.
    """
    count = len(positions)
    if group_size > 1 and count < group_size:
        raise DataContractError(
            f"{count} scan positions cannot fill groups of {group_size}; use a smaller gridsize"
        )
    if group_size > 1 and num_groups > count:
        pool = neighbor_count if pool_size is None else pool_size
        _check_oversampling(num_groups, count, group_size, pool, allowed=oversample)
        first = np.arange(count) if sequential else None
        return _combinations(
            positions, group_size, num_groups, min(pool, count - 1), seed, first, generator
        )
    if group_size > 1 and neighbor_count < group_size:
        raise DataContractError(
            f"neighbor_count={neighbor_count} is too few for groups of {group_size}: without "
            f"their seed they need at least {group_size} neighbours"
        )
    if num_groups > count:
        logger.warning("%d groups of one pattern asked for, there are %d", num_groups, count)
    centres = _seeds(count, num_groups, seed, generator, sequential=sequential)
    if group_size == 1:
        return centres[:, None]
    return _around_centres(positions, centres, group_size, neighbor_count, generator)


def _seeds(
    count: int, wanted: int, seed: int | None, generator: LegacyGenerator, *, sequential: bool
) -> NDArray[np.int64]:
    if sequential:
        generator.seed(0)
    elif seed is not None:
        generator.seed(seed)
    if sequential or wanted >= count:
        return np.arange(min(wanted, count))
    return generator.choice(count, wanted, replace=False)


def _around_centres(
    positions: NDArray[np.float64],
    centres: NDArray[np.int64],
    group_size: int,
    neighbor_count: int,
    generator: LegacyGenerator,
) -> NDArray[np.int32]:
    """Draw one group from the neighbours of each centre, in the order of the centres."""
    from scipy.spatial import cKDTree

    found = min(neighbor_count + 1, len(positions))
    _, near = cKDTree(positions).query(positions[centres], k=found)
    # Where the scan is smaller than the neighbourhood, the centre stays among the candidates.
    near = near[:, 1:] if found == neighbor_count + 1 else near
    candidates = near.shape[1]
    # `choice` without replacement is the head of a permutation, and three times as slow.
    heads = [generator.permutation(candidates)[:group_size] for _ in range(len(centres))]
    return np.take_along_axis(near, np.array(heads), axis=1).astype(np.int32)


def _combinations(
    positions: NDArray[np.float64],
    group_size: int,
    wanted: int,
    pool_size: int,
    seed: int | None,
    first: NDArray[np.int64] | None,
    generator: LegacyGenerator,
) -> NDArray[np.int64]:
    """Draw from all combinations of C neighbours of twice as many centres as are needed."""
    from scipy.spatial import cKDTree

    if seed is not None:
        generator.seed(seed)
    count = len(positions)
    needed = max(1, math.ceil(wanted / math.comb(pool_size, group_size)))
    num_seeds = min(2 * needed, count)
    if first is not None and len(first) >= num_seeds:
        centres = first[:num_seeds]
    elif num_seeds < count:
        centres = generator.choice(count, num_seeds, replace=False)
    else:
        centres = np.arange(count)
    _, near = cKDTree(positions).query(positions[centres], k=np.arange(1, pool_size + 2))
    choices = np.array(list(itertools.combinations(range(1, pool_size + 1), group_size)))
    pool = near[:, choices].reshape(-1, group_size)[: 2 * wanted]
    picked = generator.choice(len(pool), wanted, replace=len(pool) < wanted)
    return pool[picked].astype(np.int64)


def _check_oversampling(
    wanted: int, count: int, group_size: int, pool: int, *, allowed: bool
) -> None:
    if not allowed:
        raise DataContractError(
            f"{wanted} groups asked for but there are {count} positions; ask for fewer, or set "
            "enable_oversampling"
        )
    if min(pool, count - 1) < group_size:
        raise DataContractError(
            f"neighbor_pool_size={pool} is too few for groups of {group_size} out of {count} "
            "positions; raise it"
        )
