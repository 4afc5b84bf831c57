"""A table of groups, and how it is kept in its store under the parameters that made it."""

import hashlib
import json
import logging
import os
import shutil
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from ptychostream.datasets.store.grouping import choose_seeds, nearest_neighbor_groups
from ptychostream.datasets.store.layout import GROUPINGS
from ptychostream.errors import DataContractError
from ptychostream.geometry import split_coordinates

logger = logging.getLogger(__name__)

NeighborFunction = Literal["nearest"]


@dataclass(frozen=True, kw_only=True)
class GroupingParameters:
    """What decides a grouping; equal parameters are the same grouping.

    Attributes
    ----------
    gridsize : int
        Patterns along one side of a group.
    neighbor_count : int
        Nearest neighbours K that a group is drawn from.
    num_groups : int, optional
        Positions that seed groups in each experiment; None is all.
    groups_per_position : int
        Groups drawn around each seed.
    neighbor_function : str
        How neighbours are found.
    sequential : bool
        Whether the first positions are the seeds, instead of a draw.
    seed : int
        Seed of the draws.
    witnesses : int
        Members drawn beyond gridsize², to test what a model makes of the others.
    """

    gridsize: int
    neighbor_count: int
    num_groups: int | None = None
    groups_per_position: int = 1
    neighbor_function: NeighborFunction = "nearest"
    sequential: bool = False
    seed: int = 0
    witnesses: int = 0

    def __post_init__(self) -> None:
        """Refuse parameters that no grouping has.

        Raises
        ------
        DataContractError
            If a number is below one, or the neighbour function is unknown.
        """
        if min(self.gridsize, self.groups_per_position, self.num_groups or 1) < 1:
            raise DataContractError(
                f"gridsize={self.gridsize}, groups_per_position={self.groups_per_position} and "
                f"num_groups={self.num_groups} must be at least 1"
            )
        if self.neighbor_function != "nearest":
            raise DataContractError(
                f"neighbor_function={self.neighbor_function!r} is unknown; there is 'nearest'"
            )

    def key(self) -> str:
        """Name the grouping: a digest of its parameters."""
        text = json.dumps(asdict(self), sort_keys=True)
        return hashlib.sha256(text.encode()).hexdigest()[:24]


@dataclass(frozen=True, eq=False, kw_only=True)
class Groups:
    """A table of groups: rows of patterns that the model sees together.

    Attributes
    ----------
    nn_indices : (G, C) int64
        Rows of the store in acquisition order; the first member is the group's seed.
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
        Ordered by experiment, then by seed.
    """
    rng = np.random.default_rng(parameters.seed)
    parts = []
    for experiment in np.unique(experiment_id):
        rows = np.flatnonzero(experiment_id == experiment)
        here = positions[rows]
        seeds = choose_seeds(
            len(rows), parameters.num_groups, rng, sequential=parameters.sequential
        )
        drawn = nearest_neighbor_groups(
            here,
            seeds,
            rng,
            group_size=parameters.gridsize**2 + parameters.witnesses,
            neighbor_count=parameters.neighbor_count,
            groups_per_position=parameters.groups_per_position,
        )
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
            "parameters": asdict(groups.parameters),
            "sha256": hashlib.sha256(table.tobytes()).hexdigest(),
        }
        (partial / "grouping.json").write_text(json.dumps(record, indent=1))
        partial.replace(final)
    except OSError as error:
        shutil.rmtree(partial, ignore_errors=True)
        if not final.is_dir():
            logger.warning("could not keep the grouping in '%s': %s", store_root, error)
