"""Which groups of patterns are reconstructed."""

from dataclasses import replace

import numpy as np

from ptychostream.config import InferenceConfig, TrainingConfig
from ptychostream.datasets.selection import select_groups
from ptychostream.datasets.store import GroupStore
from ptychostream.datasets.store.groups import Groups
from ptychostream.errors import ConfigurationError


def groups_of(
    store: GroupStore,
    experiment: int,
    trained: TrainingConfig,
    config: InferenceConfig | None,
    groups_per_position: int,
) -> Groups:
    """Choose the groups of one experiment, in the order in which the store holds them.

    Parameters
    ----------
    store : GroupStore
        The data.
    experiment : int
        Which experiment.
    trained : TrainingConfig
        What the network was trained with: its `gridsize`, and neighbours and seed unless
        `config` says otherwise.
    config : InferenceConfig, optional
        `n_groups`, `n_subsample`, `subsample_seed`, `neighbor_count`, `enable_oversampling` and
        `neighbor_pool_size`.
    groups_per_position : int
        Groups drawn around each seed; their patches are averaged.

    Returns
    -------
    Groups
        The table; its first column is the seeds.

    Raises
    ------
    ConfigurationError
        If the options contradict each other.
    DataContractError
        If there are too few positions or neighbours.
    """
    if groups_per_position < 1:
        raise ConfigurationError(f"groups_per_position={groups_per_position} must be at least 1")
    asked = config or InferenceConfig(
        neighbor_count=trained.neighbor_count, subsample_seed=trained.subsample_seed
    )
    groups = select_groups(
        store,
        asked,
        gridsize=trained.model.gridsize,
        groups_per_position=groups_per_position,
    )
    members = groups.nn_indices[store.experiment_id[groups.nn_indices[:, 0]] == experiment]
    order = np.argsort(store.storage_rows[members[:, 0]], kind="stable")
    return replace(groups, nn_indices=members[order])
