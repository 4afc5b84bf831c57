"""Run the solver on an experiment of a store, pass by pass."""

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ptychostream.datasets.store import GroupStore
from ptychostream.errors import DataContractError
from ptychostream.geometry import ObjectGrid
from ptychostream.reconstruction.grid import grid_of
from ptychostream.solver.solution import SolverState
from ptychostream.solver.start import (
    SolverStart,
    chosen_experiments,
    make_solver,
    read_start,
    solver_options,
)


def solve(
    store: GroupStore,
    *,
    experiment: int | Sequence[int] | None = None,
    start: str | Path | NDArray[np.complex64] | SolverStart = "flat",
    grid: ObjectGrid | None = None,
    should_stop: Callable[[], bool] | None = None,
    on_patterns: Callable[[int], object] | None = None,
    **options: Any,
) -> Iterator[SolverState]:
    """Solve for object, probe and positions without a network, and yield each pass's state.

    Parameters
    ----------
    store : GroupStore
        The patterns.
    experiment : int or sequence of int, optional
        Which experiment, where there are several; or those that share one object, as parts of
        one stage, and the probe of the first.
    start : str, Path, (H, W) complex64 or SolverStart
        `flat`, the `object.npz` of an earlier result, or an object on the grid.
    grid : ObjectGrid, optional
        The pixels of the objects; None is the grid of the object guess, else the smallest one
        that holds every patch.
    should_stop : callable, optional
        Asked before every update; True ends the run with what there is.
    on_patterns : callable, optional
        Called with the number of patterns of each update.
    **options
        Fields of `SolverOptions`, such as `passes`, `probe_modes`, `refine_probe`,
        `correct_positions`, `seed` and `memory_budget`. The probe is refined unless the scan is
        simulated, or `refine_probe` says otherwise.

    Yields
    ------
    SolverState
        `number`, `misfit`, `object`, `probe`, `positions`.

    Raises
    ------
    ConfigurationError
        If an option is unknown or out of range.
    DataContractError
        If there are several experiments and none was chosen, the start does not fit, or not even
        the first pass can be made.

    Examples
    --------
    >>> import ptychostream as ps, tempfile
    >>> scan = ps.simulate_scan(num_positions=64, N=16, step=2.5)
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     store = ps.build_group_store(scan, f"{folder}/scan.zarr", progress=False)
    ...     states = [(state.number, state.misfit) for state in ps.solve(store, passes=3)]
    >>> [number for number, _ in states], states[-1][1] < states[0][1]
    ([1, 2, 3], True)
    """
    chosen = chosen_experiments(store, experiment)
    asked = solver_options(store, chosen, **options)
    grid = grid or grid_of(store, chosen)
    solver = make_solver(store, chosen, asked, read_start(start, grid))
    state = None
    for state in solver.run(grid=grid, should_stop=should_stop, on_patterns=on_patterns):
        yield state
    if state is None and solver.stopped_by == "divergence":
        raise DataContractError(
            f"'{store.path}': the misfit rises from the first pass on, or is no number, however "
            "small the steps: the patterns, the probe or an exchanged step of the solver is wrong"
        )
