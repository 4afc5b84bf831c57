"""Which groups of patterns are reconstructed."""

from dataclasses import replace
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from ptychostream.config import InferenceConfig, TrainingConfig
from ptychostream.datasets.batches.selection import select_groups
from ptychostream.datasets.grouping.table import Groups
from ptychostream.datasets.store import GroupStore
from ptychostream.errors import ConfigurationError

#: Positions that groups are drawn around.
Seeds = Literal["every", "covering"]

#: Groups that are processed together: as lists they need many times the memory.
_BLOCK = 2**14


def groups_of(
    store: GroupStore,
    experiment: int,
    trained: TrainingConfig,
    config: InferenceConfig | None,
    groups_per_position: int = 1,
    seeds: Seeds = "every",
) -> Groups:
    """Choose the groups of one experiment, in the order in which the store holds them.

    `trained`: what the network was trained with: its `gridsize`, and neighbours and seed unless
        `config` says otherwise.
    `seeds`: `every` position, or `covering`: as few as put each pattern into a group.
    """
    if groups_per_position < 1:
        raise ConfigurationError(f"groups_per_position={groups_per_position} must be at least 1")
    if seeds == "covering" and (groups_per_position > 1 or trained.model.gridsize == 1):
        raise ConfigurationError(
            f"seeds='covering' leaves groups out, which gridsize={trained.model.gridsize} and "
            f"groups_per_position={groups_per_position} do not have to spare; take 'every'"
        )
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
    members = members[order]
    if seeds == "covering":
        members = members[_covering(members, store.num_patterns)]
    return replace(groups, nn_indices=members)


def _covering(members: NDArray[np.int64], num_patterns: int) -> NDArray[np.int64]:
    """Keep each group whose centre is no member of a group kept before it."""
    seen, kept = bytearray(num_patterns), []
    for start in range(0, len(members), _BLOCK):
        for number, group in enumerate(members[start : start + _BLOCK].tolist(), start):
            if not seen[group[0]]:
                kept.append(number)
                for member in group:
                    seen[member] = 1
    return np.array(kept, dtype=np.int64)
