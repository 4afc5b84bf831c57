"""Draw the groups of one scan by their parameters."""

import numpy as np
from numpy.typing import NDArray

from ptychostream.datasets.grouping.combinations import combination_groups
from ptychostream.datasets.grouping.distance import min_distance_groups
from ptychostream.datasets.grouping.nearest import choose_centres, nearest_neighbor_groups
from ptychostream.datasets.grouping.parameters import GroupingParameters
from ptychostream.datasets.grouping.ptychopinn_draws import LegacyGenerator, upstream_groups
from ptychostream.datasets.grouping.quadrants import four_quadrant_groups


def draw_groups(
    positions: NDArray[np.float64], parameters: GroupingParameters, rng: np.random.Generator
) -> NDArray[np.int64]:
    """Draw groups that hold their centre (`policy="default"`).

    Parameters
    ----------
    positions : (M, 2) float64
        Scan positions (x, y) of one scan, in pixels.

    Returns
    -------
    (G, C) int64
        Rows of `positions`.

    Raises
    ------
    DataContractError
        If groups can't be filled.
    """
    wanted, size = parameters.num_groups, parameters.group_size
    if (
        parameters.enable_oversampling
        and wanted is not None
        and wanted > len(positions)
        and size > 1
    ):
        return combination_groups(
            positions, wanted, rng, group_size=size, pool_size=parameters.pool_size
        )
    centres = choose_centres(len(positions), wanted, rng, sequential=parameters.sequential)
    if parameters.neighbor_function == "four_quadrant":
        return four_quadrant_groups(
            positions,
            centres,
            rng,
            neighbor_count=parameters.neighbor_count,
            groups_per_position=parameters.groups_per_position,
            held_out=parameters.held_out,
        )
    if parameters.neighbor_function == "min_distance":
        return min_distance_groups(
            positions,
            centres,
            rng,
            group_size=size,
            neighbor_count=parameters.neighbor_count,
            groups_per_position=parameters.groups_per_position,
            min_distance=parameters.min_neighbor_distance,
            max_distance=parameters.max_neighbor_distance,
        )
    return nearest_neighbor_groups(
        positions,
        centres,
        rng,
        group_size=size,
        neighbor_count=parameters.neighbor_count,
        groups_per_position=parameters.groups_per_position,
    )


def draw_upstream_groups(
    positions: NDArray[np.float64],
    parameters: GroupingParameters,
    seed: int | None,
    generator: LegacyGenerator,
) -> NDArray[np.int32] | NDArray[np.int64]:
    """Draw groups as PtychoPINN does (`policy="upstream"`).

    Parameters
    ----------
    positions : (M, 2) float64
        Scan positions (x, y) of one scan, in pixels.

    Returns
    -------
    (G, C) int32 or int64
        Rows of `positions`.

    Raises
    ------
    DataContractError
        If groups can't be filled.
    """
    wanted = parameters.num_groups
    return upstream_groups(
        positions,
        group_size=parameters.group_size,
        neighbor_count=parameters.neighbor_count,
        num_groups=len(positions) if wanted is None else wanted,
        seed=seed,
        sequential=parameters.sequential,
        oversample=parameters.enable_oversampling,
        pool_size=parameters.neighbor_pool_size,
        generator=generator,
    )


def draw_patterns(num_patterns: int, wanted: int, seed: int | None) -> NDArray[np.int64]:
    """Draw patterns before grouping, with the numbers that PtychoPINN draws for a seed.

    Returns
    -------
    (M,) int64
        Rows, ascending.
    """
    if wanted >= num_patterns:
        return np.arange(num_patterns)
    return np.sort(np.random.RandomState(seed).choice(num_patterns, wanted, replace=False))
