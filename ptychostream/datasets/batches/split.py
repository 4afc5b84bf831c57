"""Split groups into training and validation by position, on separate parts of the object."""

from dataclasses import replace

import numpy as np

from ptychostream.datasets.grouping.table import Groups
from ptychostream.datasets.store import GroupStore
from ptychostream.errors import DataContractError


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
