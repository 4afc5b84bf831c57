"""The groups that a configuration selects."""

import logging
from dataclasses import replace
from typing import Any

import numpy as np

from ptychostream.config import InferenceConfig, TrainingConfig
from ptychostream.datasets.grouping.table import Groups
from ptychostream.datasets.store import GroupStore
from ptychostream.errors import ConfigurationError, DataContractError

logger = logging.getLogger(__name__)


def select_groups(
    store: GroupStore,
    config: TrainingConfig | InferenceConfig,
    *,
    gridsize: int | None = None,
    groups_per_position: int | None = None,
    held_out: int = 0,
) -> Groups:
    """Return the groups of a store that a configuration selects.

    Parameters
    ----------
    config : TrainingConfig or InferenceConfig
        Its fields decide the number of groups, their neighbours and the draws.
    gridsize : int, optional
        Patterns along one side of a group; None is the configuration's own.
    groups_per_position : int, optional
        Groups drawn around each position; None is the configuration's own.

    Raises
    ------
    ConfigurationError
        If a number is negative, or an option has no effect beside the others.
    DataContractError
        If there are too few positions or neighbours.
    """
    gridsize = config.model.gridsize if gridsize is None else gridsize
    if config.neighbor_count < 0:
        raise ConfigurationError(f"neighbor_count={config.neighbor_count} must not be negative")
    training: dict[str, Any] = {}
    if isinstance(config, TrainingConfig):
        training = {
            "sequential": config.sequential_sampling,
            "neighbor_function": config.neighbor_function,
            "min_neighbor_distance": config.min_neighbor_distance,
            "max_neighbor_distance": config.max_neighbor_distance,
        }
        if groups_per_position is None:
            groups_per_position = config.groups_per_position
    groups = store.groups(
        gridsize,
        # A group of C needs C - 1 neighbours of its centre, and one more for a held-out neighbour.
        max(config.neighbor_count, gridsize**2 - 1 + held_out),
        num_groups=config.n_groups,
        groups_per_position=groups_per_position or 1,
        **training,
        seed=config.subsample_seed or 0,
        held_out=held_out,
        n_subsample=config.n_subsample,
        enable_oversampling=config.enable_oversampling,
        neighbor_pool_size=config.neighbor_pool_size,
    )
    if config.n_groups is not None and len(groups) < config.n_groups:
        logger.warning(
            "n_groups=%d, but '%s' has %d to draw; enable_oversampling draws more",
            config.n_groups,
            store.path,
            len(groups),
        )
    return groups


def split_by_position(groups: Groups, store: GroupStore, fraction: float) -> tuple[Groups, Groups]:
    """Split groups by position: random neighbours overlap, so both parts would show the same.

    Parameters
    ----------
    fraction : float
        Part of each experiment's positions that is held out: those farthest along the longer
        side of its scan.

    Returns
    -------
    training, held_out : Groups
        Those whose members all lie in one part; groups across the border are in neither.

    Raises
    ------
    DataContractError
        If a part holds no group.
    """
    outside = np.zeros(store.num_patterns, dtype=np.bool_)
    for experiment in range(store.num_experiments):
        rows = store.rows(experiment)
        here = store.positions[rows]
        along = here[:, np.ptp(here, axis=0).argmax()]
        held_out = max(1, round(fraction * len(rows)))
        outside[rows[np.argsort(along, kind="stable")[len(rows) - held_out :]]] = True
    members = outside[groups.nn_indices]
    parts = ~members.any(axis=1), members.all(axis=1)
    for name, part in zip(("train", "validate"), parts, strict=True):
        if not part.any():
            raise DataContractError(
                f"validation_fraction={fraction} leaves no whole group to {name} on in "
                f"'{store.path}' with {store.num_patterns} patterns; choose another fraction"
            )
    training, validation = (replace(groups, nn_indices=groups.nn_indices[part]) for part in parts)
    return training, validation
