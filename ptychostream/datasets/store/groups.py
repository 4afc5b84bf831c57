"""A table of groups, and how it is kept in its store under the parameters that made it."""

import hashlib
import json
import logging
import os
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ptychostream.datasets.store.draw import draw_groups, draw_patterns, draw_upstream_groups
from ptychostream.datasets.store.grouping_parameters import GroupingParameters
from ptychostream.datasets.store.layout import GROUPINGS
from ptychostream.errors import DataContractError
from ptychostream.geometry import split_coordinates

logger = logging.getLogger(__name__)


@dataclass(frozen=True, eq=False, kw_only=True)
class Groups:
    """A table of groups: rows of patterns that the model sees together.

    Attributes
    ----------
    nn_indices : (G, C) int64
        Rows of the store in acquisition order. The first member is the group's seed, except with
        `four_quadrant`, where it stands in any place, and with `policy="upstream"`, where it is no
        member.
    parameters : GroupingParameters
        What made the table.
    """

    nn_indices: NDArray[np.int64]
    parameters: GroupingParameters

    def __len__(self) -> int:
        return len(self.nn_indices)

    @property
    def group_size(self) -> int:
        """Patterns per group, C."""
        return int(self.nn_indices.shape[1])

    def coordinates(
        self, positions: NDArray[np.float64]
    ) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Return centres (G, 2) and centre minus member (G, C, 2), in pixels.

        Parameters
        ----------
        positions : (M, 2) float64
            Scan positions (x, y) in acquisition order.

        Returns
        -------
        offsets : (G, 2) float64
            Mean position of each group.
        relative : (G, C, 2) float64
            Centre minus member.
        """
        return split_coordinates(positions, self.nn_indices)


def compute_groups(
    positions: NDArray[np.float64],
    experiment_id: NDArray[np.int64],
    parameters: GroupingParameters,
) -> Groups:
    """Compute a grouping; groups never cross experiments.

    Parameters
    ----------
    positions : (M, 2) float64
        Scan positions (x, y), acquisition order.
    experiment_id : (M,) int64
        Experiment of each position.
    parameters : GroupingParameters
        What to compute.

    Returns
    -------
    Groups
        Ordered by experiment; then by seed, unless groups are oversampled or upstream's.
    """
    rng = np.random.default_rng(parameters.seed)
    parts = []
    for experiment in np.unique(experiment_id):
        rows = np.flatnonzero(experiment_id == experiment)
        if parameters.n_subsample is not None:
            rows = rows[draw_patterns(len(rows), parameters.n_subsample, parameters.seed)]
        here = positions[rows]
        if parameters.policy == "upstream":
            # A generator of its own, as a kept table has no use for the global one's state.
            legacy = np.random.RandomState()
            drawn = draw_upstream_groups(here, parameters, parameters.seed, legacy)
        else:
            drawn = draw_groups(here, parameters, rng)
        parts.append(rows[drawn])
    return Groups(nn_indices=np.concatenate(parts), parameters=parameters)


def load_grouping(store_root: Path, parameters: GroupingParameters) -> Groups | None:
    """Find a grouping in a store.

    Parameters
    ----------
    store_root : Path
        The store's folder.
    parameters : GroupingParameters
        Which grouping.

    Returns
    -------
    Groups or None
        None where it has not been computed.

    Raises
    ------
    DataContractError
        If the kept table is damaged.
    """
    folder = store_root / GROUPINGS / parameters.key()
    if not folder.is_dir():
        return None
    import zarr

    try:
        record: dict[str, Any] = json.loads((folder / "grouping.json").read_text())
        table = np.asarray(zarr.open_array(folder / "nn_indices", mode="r")[:], dtype=np.int64)
    except (OSError, ValueError, KeyError) as error:
        raise DataContractError(
            f"the grouping in '{folder}' is damaged ({error}); delete this folder, it will be "
            "computed again"
        ) from error
    if hashlib.sha256(table.tobytes()).hexdigest() != record["sha256"]:
        raise DataContractError(
            f"the grouping in '{folder}' fails its checksum; delete this folder, it will be "
            "computed again"
        )
    return Groups(nn_indices=table, parameters=parameters)


def keep_grouping(store_root: Path, groups: Groups) -> None:
    """Keep a grouping in its store, published by one rename.

    A store that can't be written to is left as it is.

    Parameters
    ----------
    store_root : Path
        The store's folder.
    groups : Groups
        The table.
    """
    import zarr

    final = store_root / GROUPINGS / groups.parameters.key()
    partial = final.with_name(f".{final.name}.{os.getpid()}.partial")
    table = np.ascontiguousarray(groups.nn_indices)
    try:
        partial.mkdir(parents=True, exist_ok=True)
        zarr.save_array(partial / "nn_indices", table, zarr_format=3)  # type: ignore[arg-type]
        record = {
            "parameters": groups.parameters.record(),
            "sha256": hashlib.sha256(table.tobytes()).hexdigest(),
        }
        (partial / "grouping.json").write_text(json.dumps(record, indent=1))
        partial.replace(final)
    except OSError as error:
        shutil.rmtree(partial, ignore_errors=True)
        if not final.is_dir():
            logger.warning("could not keep the grouping in '%s': %s", store_root, error)
