"""Which groups of patterns are reconstructed."""

from dataclasses import replace

import numpy as np

from ptychostream.config import InferenceConfig, TrainingConfig
from ptychostream.datasets.store import GroupStore
from ptychostream.datasets.store.grouping_parameters import GroupingParameters
from ptychostream.datasets.store.groups import Groups, compute_groups
from ptychostream.datasets.store.oversampling import combination_groups
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
        What the network was trained with: its `gridsize`, and all else unless `config` says
        otherwise.
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
    """
    gridsize = trained.model.gridsize
    neighbours, seed, wanted = trained.neighbor_count, trained.subsample_seed or 0, None
    subsample = None
    if groups_per_position < 1:
        raise ConfigurationError(f"groups_per_position={groups_per_position} must be at least 1")
    if config is not None:
        neighbours, wanted, subsample = config.neighbor_count, config.n_groups, config.n_subsample
        seed = config.subsample_seed or 0
    parameters = GroupingParameters(
        gridsize=gridsize,
        neighbor_count=neighbours,
        num_groups=wanted,
        groups_per_position=groups_per_position,
        seed=seed,
    )
    rows = np.flatnonzero(store.experiment_id == experiment)
    if subsample is not None and subsample < len(rows):
        drawn = np.random.default_rng(seed).choice(len(rows), subsample, replace=False)
        rows = rows[np.sort(drawn)]
    oversamples = config is not None and config.enable_oversampling
    if config is not None and config.neighbor_pool_size is not None and not oversamples:
        raise ConfigurationError("neighbor_pool_size belongs to enable_oversampling=True")
    if oversamples and wanted is not None and wanted > len(rows):
        if gridsize == 1 or groups_per_position > 1:
            raise ConfigurationError(
                f"enable_oversampling combines neighbours: it needs a gridsize above 1 (it is "
                f"{gridsize}) and groups_per_position=1 (it is {groups_per_position})"
            )
        assert config is not None
        table = combination_groups(
            store.positions[rows],
            wanted,
            np.random.default_rng(seed),
            group_size=gridsize**2,
            pool_size=config.neighbor_pool_size or neighbours,
        )
        groups = Groups(nn_indices=rows[table], parameters=parameters)
    elif len(rows) < np.count_nonzero(store.experiment_id == experiment):
        alone = np.zeros(len(rows), np.int64)
        groups = compute_groups(store.positions[rows], alone, parameters)
        groups = replace(groups, nn_indices=rows[groups.nn_indices])
    else:
        groups = store.groups(
            gridsize,
            neighbours,
            num_groups=wanted,
            groups_per_position=groups_per_position,
            seed=seed,
        )
        here = store.experiment_id[groups.nn_indices[:, 0]] == experiment
        groups = replace(groups, nn_indices=groups.nn_indices[here])
    order = np.argsort(store.storage_rows[groups.nn_indices[:, 0]], kind="stable")
    return replace(groups, nn_indices=groups.nn_indices[order])
