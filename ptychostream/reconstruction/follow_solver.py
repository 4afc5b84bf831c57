"""Go on solving while a scan grows."""

import time
from collections.abc import Callable
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from ptychostream.datasets.store import GroupStore
from ptychostream.geometry import ObjectGrid
from ptychostream.progress import ProgressMonitor
from ptychostream.reconstruction.result import ReconstructionResult
from ptychostream.solver.start import SolverStart, rows_of

#: Passes of a look; and of all looks without new patterns, after which nothing more is gained.
LOOK_PASSES, _ENOUGH = 4, 20

#: Solve for a store from a start, with so many passes.
Solve = Callable[[GroupStore, SolverStart, int, ProgressMonitor], ReconstructionResult]


class LiveSolver:
    """The solver, which goes on from its last object with the patterns that there are by now.

    New positions lie where nothing is known yet, beside an object and a probe that fit
    already: a few passes bring them in.
    """

    least = 4

    def __init__(
        self,
        experiments: tuple[int, ...],
        *,
        solve: Solve,
        finish: Callable[[GroupStore, SolverStart], ReconstructionResult],
    ) -> None:
        self._experiments, self._solve, self._finish = experiments, solve, finish
        self._start, self._passes = SolverStart(), 0
        self._rows = np.empty(0, np.int64)

    @property
    def goes_on(self) -> bool:
        """Whether more passes over the same patterns improve the object."""
        return self._passes < _ENOUGH

    def rows(self, store: GroupStore) -> NDArray[np.int64]:
        """Return the rows (M,) of the experiments."""
        return rows_of(store, self._experiments)

    def look(self, store: GroupStore, done: int, watch: ProgressMonitor) -> ReconstructionResult:
        """Make a few passes, from the object so far."""
        began, rows = time.perf_counter(), self.rows(store)
        result = self._solve(store, self._start_for(store, rows), LOOK_PASSES, watch)
        self._passes = LOOK_PASSES + (0 if len(rows) > len(self._rows) else self._passes)
        self._rows = rows
        height, width = result.object.shape
        self._start = SolverStart(
            object=result.object,
            grid=ObjectGrid(height, width, result.origin),
            probe=result.probe,
            positions=result.positions,
        )
        seconds = result.seconds | {"total": time.perf_counter() - began}
        return replace(result, seconds=seconds, is_partial=True)

    def finish(self, store: GroupStore) -> ReconstructionResult:
        """Make all passes, from the object so far."""
        return self._finish(store, self._start_for(store, self.rows(store)))

    def _start_for(self, store: GroupStore, rows: NDArray[np.int64]) -> SolverStart:
        """Add positions that have come since to those solved for."""
        if self._start.positions is None:
            return self._start
        positions = store.positions[rows].copy()
        positions[np.isin(rows, self._rows)] = self._start.positions
        return replace(self._start, positions=positions)
