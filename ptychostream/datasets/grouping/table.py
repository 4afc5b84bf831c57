"""A table of groups, computed from positions and parameters."""

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ptychostream.datasets.grouping.draw import draw_groups, draw_patterns, draw_upstream_groups
from ptychostream.datasets.grouping.parameters import GroupingParameters
from ptychostream.datasets.large_tables import blocks_of, joined_rows, new_table, sorted_rows
from ptychostream.geometry import split_coordinates


@dataclass(frozen=True, eq=False, kw_only=True)
class Groups:
    """A table of groups: rows of patterns that enter the network together.

    Attributes
    ----------
    nn_indices : (G, C) int64
        Rows of the store in acquisition order. The first member is the group's centre, except with
        `four_quadrant`, where it may be in any column, and with `policy="upstream"`, where it is
        not a member.
    parameters : GroupingParameters
        The parameters that gave the table.
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
        """Return mean positions (G, 2) and mean minus member (G, C, 2), in pixels.

        Parameters
        ----------
        positions : (M, 2) float64
            Scan positions (x, y) in acquisition order.

        Returns
        -------
        offsets : (G, 2) float64
            Mean position of each group.
        relative : (G, C, 2) float64
            Mean minus member.
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
    """
    rng = np.random.default_rng(parameters.seed)
    parts = []
    for rows in _rows_by_experiment(experiment_id):
        if parameters.n_subsample is not None:
            rows = _numbers(rows)
            rows = rows[draw_patterns(len(rows), parameters.n_subsample, parameters.seed)]
        here = positions[rows]
        if parameters.policy == "upstream":
            # Not the global generator: a kept table draws nothing, so its state must not matter.
            legacy = np.random.RandomState()
            drawn = draw_upstream_groups(here, parameters, parameters.seed, legacy)
        else:
            drawn = draw_groups(here, parameters, rng)
        parts.append(_in_store(drawn, rows))
    return Groups(nn_indices=joined_rows(parts), parameters=parameters)


def _rows_by_experiment(
    experiment_id: NDArray[np.int64],
) -> Iterator[slice | NDArray[np.integer]]:
    """Yield the rows of each experiment that has some, as a slice where they follow each other."""
    number = int(experiment_id.max()) + 1
    if number == 1:
        yield slice(0, len(experiment_id))
        return
    rows, starts = sorted_rows(lambda block: experiment_id[block], len(experiment_id), number)
    for first, last in pairwise(starts):
        if first == last:
            continue
        here = rows[first:last]
        follow = here[-1] - here[0] == len(here) - 1
        yield slice(int(here[0]), int(here[-1]) + 1) if follow else here


def _numbers(rows: slice | NDArray[np.integer]) -> NDArray[np.integer]:
    return np.arange(rows.start, rows.stop) if isinstance(rows, slice) else rows


def _in_store(drawn: NDArray[Any], rows: slice | NDArray[np.integer]) -> NDArray[np.int64]:
    """Turn rows (G, C) of an experiment into rows of the store."""
    if isinstance(rows, slice) and rows.start == 0 and drawn.dtype == np.int64:
        return drawn
    table = new_table(drawn.shape, np.int64)
    for block in blocks_of(len(drawn)):
        here = drawn[block]
        table[block] = here + rows.start if isinstance(rows, slice) else rows[here]
    return table
