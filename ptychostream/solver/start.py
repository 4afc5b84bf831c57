"""What a run of the solver starts from: an experiment of a store, and perhaps an earlier result."""

from collections.abc import Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ptychostream.datasets.store import GroupStore
from ptychostream.errors import ConfigurationError, DataContractError
from ptychostream.geometry import ObjectGrid
from ptychostream.memory import parse_bytes
from ptychostream.solver.options import SolverOptions
from ptychostream.solver.patterns import DealtPatterns
from ptychostream.solver.ranks import Ranks
from ptychostream.solver.solver import Solver
from ptychostream.solver.tiles import Tiles


@dataclass(frozen=True, eq=False, kw_only=True)
class SolverStart:
    """What a run begins with.

    Attributes
    ----------
    object : (H, W) complex64, optional
        The object; zeros are unknown. Of several processes, the first one has it.
    grid : ObjectGrid, optional
        Where it lies; None is a flat object.
    probe : (P, N, N) complex64, optional
        Illumination; None is the store's.
    positions : (M, 2) float64, optional
        Scan positions (x, y), in pixels; None are the store's.
    """

    object: NDArray[np.complex64] | None = None
    grid: ObjectGrid | None = None
    probe: NDArray[np.complex64] | None = None
    positions: NDArray[np.float64] | None = None


def solver_options(store: GroupStore, experiments: Sequence[int], **options: Any) -> SolverOptions:
    """Make the options of a run; what is None is left to the scan."""
    known = {item.name for item in fields(SolverOptions)}
    unknown = sorted(set(options) - known)
    if unknown:
        raise ConfigurationError(
            f"no option {unknown[0]!r} of the solver; choose among {', '.join(sorted(known))}"
        )
    chosen = {name: value for name, value in options.items() if value is not None}
    for name in ("memory_budget", "canvas_budget"):
        if name in chosen:
            chosen[name] = parse_bytes(chosen[name])
    chosen.setdefault("refine_probe", not all(is_simulated(store, each) for each in experiments))
    return SolverOptions(**chosen)


def is_simulated(store: GroupStore, experiment: int) -> bool:
    """Return whether a scan was simulated, so that its probe is the true one."""
    provenance = store.attributes["provenance"][experiment]
    return "simulated" in provenance or store.metadata_of(experiment).nphotons is not None


def chosen_experiments(
    store: GroupStore, experiment: int | Sequence[int] | None
) -> tuple[int, ...]:
    """Return the experiments to solve for: one, or several that share one object."""
    if experiment is None:
        if store.num_experiments > 1:
            raise DataContractError(
                f"'{store.path}' holds {store.num_experiments} experiments; choose one by "
                "experiment, from 0 on, or join several that lie on one stage"
            )
        return (0,)
    chosen = (experiment,) if isinstance(experiment, int) else tuple(experiment)
    for each in chosen:
        if not 0 <= each < store.num_experiments:
            raise DataContractError(
                f"'{store.path}' has no experiment {each}; it holds {store.num_experiments}"
            )
    if not chosen or len(set(chosen)) < len(chosen):
        raise ConfigurationError(f"experiment={list(chosen)} names none, or one of them twice")
    return chosen


def rows_of(store: GroupStore, experiments: Sequence[int]) -> NDArray[np.int64]:
    """Return the rows (M,) of some experiments, in the order of the store."""
    return np.sort(np.concatenate([store.rows(each) for each in experiments]))


def good_pixels_of(store: GroupStore, experiments: Sequence[int]) -> NDArray[np.bool_]:
    """Return the pixels (N, N) that can be trusted in each of some experiments."""
    return np.logical_and.reduce(~store.bad_pixels[list(experiments)])


def make_solver(
    store: GroupStore,
    experiments: Sequence[int],
    options: SolverOptions,
    start: SolverStart,
    *,
    ranks: Ranks | None = None,
) -> Solver:
    """Read the patterns of experiments, and make the solver for them; the first has the probe."""
    rows = rows_of(store, experiments)
    positions = store.positions[rows] if start.positions is None else start.positions
    probe = probe_of(store, experiments[0]) if start.probe is None else start.probe
    if positions.shape != (len(rows), 2) or probe.shape[-2:] != (store.N, store.N):
        raise DataContractError(
            f"the start has {len(positions)} positions and a probe of {probe.shape[-1]} px, but "
            f"experiment {experiments[0]} of '{store.path}' has {len(rows)} patterns of "
            f"{store.N} px; start from a result of the same scan"
        )
    tiles = Tiles(positions, ranks)
    patterns = DealtPatterns.of_store(
        store,
        rows,
        good_pixels=good_pixels_of(store, experiments),
        seed=options.seed,
        memory_budget=options.memory_budget,
        scratch_folder=options.scratch_folder,
        num_threads=options.num_threads,
        device=options.device,
        tiles=tiles,
    )
    solver = Solver(patterns, positions, probe, options, tiles)
    grid = tiles.ranks.of_first(None if start.object is None else start.grid)
    if grid is not None:
        solver.start_from(start.object, grid)
    return solver


def probe_of(store: GroupStore, experiment: int) -> NDArray[np.complex64]:
    """Return the modes (P, N, N) of a store's probe; those filled up with zeros are left out."""
    probe = store.probe[experiment]
    return probe[np.abs(probe).max(axis=(1, 2)) > 0]


def read_start(
    start: str | Path | NDArray[np.complex64] | SolverStart, grid: ObjectGrid
) -> SolverStart:
    """Read what a run begins with; an array lies on the grid."""
    if isinstance(start, SolverStart):
        return start
    if isinstance(start, np.ndarray):
        if start.shape != grid.shape:
            raise DataContractError(
                f"the start is {start.shape} but the grid is {grid.shape}; give it on that grid"
            )
        return SolverStart(object=start, grid=grid)
    if str(start) == "flat":
        return SolverStart()
    path = Path(start)
    path = path / "object.npz" if path.is_dir() else path
    try:
        with np.load(path, allow_pickle=False) as file:
            arrays = {name: file[name] for name in ("object", "origin", "probe", "positions")}
    except (OSError, ValueError, KeyError, EOFError) as error:
        raise DataContractError(
            f"start='{start}' is neither 'flat' nor the object.npz of an earlier result: {error}"
        ) from error
    x, y = arrays["origin"].tolist()
    return SolverStart(
        object=arrays["object"],
        grid=ObjectGrid(len(arrays["object"]), arrays["object"].shape[1], (x, y)),
        probe=arrays["probe"],
        positions=arrays["positions"],
    )
