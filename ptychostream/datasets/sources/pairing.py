"""Pair patterns with positions by their indexes, with a stated policy and a report."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ptychostream.errors import DataContractError


@dataclass(frozen=True, eq=False, kw_only=True)
class Pairing:
    """Which patterns are used, and where each was measured.

    `rows` (M,): rows of the patterns that have a position.
    `positions` (M, 2): their positions (x, y), in the unit of the input.
    `averaged`: indexes that had several positions, which were averaged.
    `interpolated`: patterns between two known indexes that had no position of their own.
    `dropped`: patterns before the first or after the last known index.
    """

    rows: NDArray[np.int64]
    positions: NDArray[np.float64]
    averaged: int
    interpolated: int
    dropped: int

    def report(self) -> str:
        """Return in one line what was done."""
        return (
            f"{len(self.rows)} patterns paired with positions by index: {self.averaged} indexes "
            f"averaged, {self.interpolated} interpolated, {self.dropped} patterns dropped"
        )


def first_triggers(triggers: NDArray[np.int64], count: int) -> list[int]:
    """Return which numbers triggers may give the first pattern, the likeliest first.

    `triggers` (K,): the numbers of a table.
    `count`: how many patterns there are.

    Examples
    --------
    >>> first_triggers(np.arange(1, 301), 300), first_triggers(np.arange(300), 300)
    ([1], [0])
    >>> first_triggers(np.arange(1, 300), 300), first_triggers(np.arange(1, 302), 300)
    ([1, 0], [1, 2])
    """
    lowest, highest = int(triggers.min()), int(triggers.max())
    numbers = highest - lowest + 1
    if numbers == count:
        return [lowest]
    if numbers > count or highest > count:
        # Patterns are missing at the end, or at the beginning.
        return [lowest, highest - count + 1]
    if lowest == 0:
        return [0]
    if highest == count:
        # From 0 on, the last number would be one less.
        return [1]
    return [1, 0] if lowest == 1 else [0, 1]


def pair_by_index(
    pattern_index: NDArray[np.int64],
    position_index: NDArray[np.int64],
    positions: NDArray[np.float64],
) -> Pairing:
    """Pair patterns with positions.

    Positions of the same index are averaged. A pattern between two known indexes gets the
    linear interpolation of theirs; one outside them is dropped.

    `pattern_index` (M,): index of each pattern.
    `position_index` (K,): index of each position, in any order, with duplicates.
    `positions` (K, 2): positions (x, y).

    Examples
    --------
    >>> xy = np.array([[0.0, 0.0], [4.0, 2.0]])
    >>> pair_by_index(np.arange(4), np.array([0, 2]), xy).positions.tolist()
    [[0.0, 0.0], [2.0, 1.0], [4.0, 2.0]]
    """
    known, inverse, counts = np.unique(position_index, return_inverse=True, return_counts=True)
    if not len(known):
        raise DataContractError("there are no positions to pair patterns with")
    sums = np.zeros((len(known), 2))
    np.add.at(sums, inverse, positions)
    means = sums / counts[:, None]
    inside = (pattern_index >= known[0]) & (pattern_index <= known[-1])
    rows = np.flatnonzero(inside)
    if not len(rows):
        raise DataContractError(
            f"no pattern has a position: patterns have the indexes {pattern_index.min()} to "
            f"{pattern_index.max()}, positions {known[0]} to {known[-1]}"
        )
    wanted = pattern_index[rows]
    paired = np.stack([np.interp(wanted, known, means[:, axis]) for axis in (0, 1)], axis=1)
    return Pairing(
        rows=rows,
        positions=paired,
        averaged=int((counts > 1).sum()),
        interpolated=int((~np.isin(wanted, known)).sum()),
        dropped=int((~inside).sum()),
    )
