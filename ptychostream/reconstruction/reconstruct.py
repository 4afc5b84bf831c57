"""Reconstruct an experiment of a store: by the solver alone, or from a network's start."""

import logging
import time
import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, cast, get_args

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from ptychostream.config import InferenceConfig, PyTorchExecutionConfig
from ptychostream.datasets.store import GroupStore
from ptychostream.errors import ConfigurationError
from ptychostream.evaluation import split_frc
from ptychostream.geometry import ObjectGrid
from ptychostream.memory import parse_bytes
from ptychostream.persistence.bundle import ModelBundle
from ptychostream.progress import ProgressMonitor, progress_bar
from ptychostream.reconstruction.fit import Fit
from ptychostream.reconstruction.follow import follow_store
from ptychostream.reconstruction.grid import canvas_folder, choose_grid
from ptychostream.reconstruction.groups import Seeds, groups_of
from ptychostream.reconstruction.options import check_execution, choose_device, choose_experiment
from ptychostream.reconstruction.reconstructor import Reconstructor, limit_unlit
from ptychostream.reconstruction.result import ReconstructionResult
from ptychostream.solver.held_out import judge_result, neighbours_of_middle
from ptychostream.solver.options import SolverOptions
from ptychostream.solver.solver import Solver, SolverState
from ptychostream.solver.start import (
    SolverStart,
    make_solver,
    only_experiment,
    read_start,
    solver_options,
)
from ptychostream.stitching import Placement, WeightName

logger = logging.getLogger(__name__)

#: Patterns of the short run that judges a result, and its passes.
_JUDGED, _JUDGING_PASSES = 150, 12

#: Called after each pass; True ends the run with what there is.
OnPass = Callable[[SolverState], object]


@dataclass(frozen=True, eq=False, kw_only=True)
class ReconstructionOptions:
    """What a reconstruction is asked for, beside the solver's own options.

    Attributes
    ----------
    align_phases : bool
        Whether the global phase of each patch is found from its neighbours before stitching.
    groups_per_position : int
        Groups drawn around each position; their patches are averaged.
    seeds : str
        Positions around which groups are drawn: `every` one, or `covering`, just enough that
        each pattern is in a group.
    placement : str
        How patches are placed between pixels: `fourier`, or `bilinear`.
    weight : str or (N, N) float32
        Trust in each patch pixel: `probe`, `uniform`, or weights of your own.
    passes : int, optional
        Passes of the solver; None is its usual number, 0 leaves the network's object.
    checks_fit : bool
        Whether the result is judged by patterns left out of a short extra run.
    solver : dict
        Options of the solver by name; None is left to the scan.
    """

    align_phases: bool = True
    groups_per_position: int = 1
    seeds: Seeds = "every"
    placement: Placement = "fourier"
    weight: WeightName | Tensor = "probe"
    passes: int | None = None
    checks_fit: bool = True
    solver: dict[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        """Check names and numbers.

        Raises
        ------
        ConfigurationError
            If a name is unknown or a number out of range.
        """
        if self.passes is not None and (not isinstance(self.passes, int) or self.passes < 0):
            raise ConfigurationError(f"passes={self.passes} must be 0, 1, 2, …")
        for name, kind in (("seeds", Seeds), ("placement", Placement)):
            value, known = getattr(self, name), get_args(kind)
            if value not in known:
                raise ConfigurationError(f"{name}={value!r} is unknown; choose one of {known}")


def reconstruct(
    bundle: ModelBundle | GroupStore,
    store: GroupStore | None = None,
    *,
    start: str | Path | NDArray[np.complex64] | None = None,
    passes: int | None = None,
    minutes: float | None = None,
    probe_modes: int | None = None,
    refine_probe: bool | None = None,
    correct_positions: bool = False,
    fit_scan_geometry: bool = False,
    smoothness: float | None = None,
    seed: int = 0,
    checks_fit: bool = True,
    experiment: int | None = None,
    config: InferenceConfig | None = None,
    execution: PyTorchExecutionConfig | None = None,
    align_phases: bool = True,
    groups_per_position: int = 1,
    seeds: Seeds = "every",
    placement: Placement = "fourier",
    weight: WeightName | Tensor = "probe",
    grid: ObjectGrid | None = None,
    memory_budget: str | int | None = None,
    canvas_budget: str | int = "4 GiB",
    scratch_folder: Path | None = None,
    on_progress: Callable[[int, int], object] | None = None,
    on_pass: OnPass | None = None,
    should_stop: Callable[[], bool] | None = None,
    refine_passes: int | None = None,
    follow: bool = False,
    interval_s: float = 5.0,
) -> ReconstructionResult:
    """Reconstruct one experiment of a store.

    `reconstruct(store)` needs no model: the solver starts from a flat object.
    `reconstruct(bundle, store)` starts it from what a trained network sees.

    Memory is the object with what belongs to it, the tables, and the budget for patterns; larger
    scans wait in a scratch file.

    Parameters
    ----------
    bundle : ModelBundle or GroupStore
        The trained model; or the store, where there is no model.
    store : GroupStore, optional
        The data, after a model.
    start : str, Path or (H, W) complex64, optional
        What the solver starts from: `flat`, `network`, the `object.npz` of an earlier result (which
        goes on where it stopped), or an object on the grid. None is the network's object where
        there is a model, else a flat one.
    passes : int, optional
        Passes over all patterns; None is 20. 0, with a model, is the network's object alone.
    minutes : float, optional
        Time for the passes, instead of their number.
    probe_modes : int, optional
        Incoherent probe modes; missing ones are added. None keeps those of the scan.
    refine_probe : bool, optional
        Whether the probe is solved for, too; None is True unless the scan was simulated.
    correct_positions : bool
        Whether the positions are solved for, too.
    fit_scan_geometry : bool
        Whether one scale, rotation and shear of all positions is found first.
    smoothness : float, optional
        Strength of the smoothness prior; None lets the data decide, 0 is no prior.
    seed : int
        Decides which patterns share an update.
    checks_fit : bool
        Whether the result is judged by patterns left out of a short extra run on a part of the
        scan; a result that does not predict them has a warning.
    experiment : int, optional
        Which experiment, where there are several.
    config : InferenceConfig, optional
        Which groups the network sees: `n_groups`, `n_subsample`, `subsample_seed`,
        `neighbor_count`, `enable_oversampling` and `neighbor_pool_size`. None takes every
        position, and the rest as the model was trained.
    execution : PyTorchExecutionConfig, optional
        Devices, precision, batch size, memory budget, `middle_trim` and `pad_eval`; its options
        of training are not for here.
    align_phases, groups_per_position, seeds, placement, weight : optional
        How the network's patches are stitched; see `ReconstructionOptions`.
    grid : ObjectGrid, optional
        The pixels to reconstruct, in the coordinates of the scan positions; None is the grid
        of the object guess, else the smallest one that holds every patch.
    memory_budget : str or int, optional
        Memory for patterns; None is the execution's.
    canvas_budget : str or int
        Memory for the object and its sums; a larger object is kept in files.
    scratch_folder : Path, optional
        For files that go away again; None is the system's folder for temporary files.
    on_progress : callable, optional
        Called with the steps done and their total, after every batch.
    on_pass : callable, optional
        Called with the `SolverState` after every pass; True ends the passes.
    should_stop : callable, optional
        Asked before every batch; once it returns True the result is what there is by then. So
        does an interrupt (Ctrl-C), where the host program does not handle it itself.
    refine_passes : int, optional
        Former name of `passes`.
    follow : bool
        Former way to follow a growing store, which returns an iterator; use `ps.follow`.
    interval_s : float
        Seconds between two results of a store that is followed, at least.

    Returns
    -------
    ReconstructionResult
        The object, on the scan's own grid unless another was asked for; `is_partial` says
        whether it was stopped early.

    Raises
    ------
    ConfigurationError
        If an option is not available, or the scratch folder's disk is too full.
    DataContractError
        If the store does not fit the model, holds several experiments and none was chosen, or
        a stray position would make the object far larger than the patterns can cover.
    """
    if refine_passes is not None:
        warnings.warn("refine_passes is called passes now", DeprecationWarning, stacklevel=2)
        passes = refine_passes
    model = bundle if isinstance(bundle, ModelBundle) else None
    if store is None:
        if not isinstance(bundle, GroupStore):
            raise ConfigurationError("reconstruct(bundle, store) needs a store after the model")
        store = bundle
    execution = execution or PyTorchExecutionConfig()
    check_execution(execution)
    if scratch_folder is not None and not scratch_folder.is_dir():
        raise ConfigurationError(f"scratch_folder='{scratch_folder}' is no folder; make it first")
    options = ReconstructionOptions(
        align_phases=align_phases,
        groups_per_position=groups_per_position,
        seeds=seeds,
        placement=placement,
        weight=weight,
        passes=passes,
        checks_fit=checks_fit,
        solver={
            "minutes": minutes,
            "probe_modes": probe_modes,
            "refine_probe": refine_probe,
            "correct_positions": correct_positions,
            "fit_scan_geometry": fit_scan_geometry,
            "smoothness": smoothness,
            "seed": seed,
            "memory_budget": memory_budget or execution.memory_budget,
            "canvas_budget": canvas_budget,
            "scratch_folder": scratch_folder,
            "num_threads": execution.num_workers,
        },
    )
    by_network = start == "network" if isinstance(start, str) else start is None and model
    run = _Run(
        store=store,
        bundle=model,
        experiment=(
            only_experiment(store, experiment)
            if model is None
            else choose_experiment(model, store, experiment)
        ),
        options=options,
        execution=execution,
        start="network" if by_network else "flat" if start is None else start,
        config=config,
        grid=grid,
        on_progress=on_progress,
        on_pass=on_pass,
        should_stop=should_stop,
    )
    if not follow:
        return run.result()
    return cast(ReconstructionResult, run.follow(interval_s))


@dataclass(frozen=True, eq=False, kw_only=True)
class _Run:
    """One reconstruction: what it is made from, and what it is asked for."""

    store: GroupStore
    bundle: ModelBundle | None
    experiment: int
    options: ReconstructionOptions
    execution: PyTorchExecutionConfig
    start: str | Path | NDArray[np.complex64]
    config: InferenceConfig | None
    grid: ObjectGrid | None
    on_progress: Callable[[int, int], object] | None
    on_pass: OnPass | None
    should_stop: Callable[[], bool] | None

    def result(self) -> ReconstructionResult:
        """Let the network see the patterns, if there is one, and solve."""
        began, store = time.perf_counter(), self.store
        rows = np.flatnonzero(store.experiment_id == self.experiment)
        grid = self.grid or choose_grid(
            store, self.experiment, store.positions[rows], pads=self.execution.pad_eval
        )
        passes = self._solver_options.passes if self.options.passes != 0 else 0
        bar = progress_bar(
            "reconstructing", self.on_progress, is_shown=self.execution.enable_progress_bar
        )
        with bar as told, ProgressMonitor(told, self.should_stop) as watch:
            watch.total = len(rows) * passes
            if isinstance(self.start, str) and self.start == "network":
                result = self._by_network(grid, watch)
                start = SolverStart(object=result.object, grid=grid, probe=result.probe)
            else:
                result, start = None, read_start(self.start, grid)
            if result is None or (passes and not watch.asks_to_stop()):
                result = self._solved(start, grid, watch, result)
        seconds = result.seconds | {"total": time.perf_counter() - began}
        result = replace(result, seconds=seconds, is_partial=watch.is_stopped)
        for text in result.warnings():
            logger.warning("%s", text)
        return result

    @property
    def _solver_options(self) -> SolverOptions:
        return solver_options(
            self.store,
            self.experiment,
            passes=self.options.passes or None,
            device=str(choose_device(self.execution.accelerator)),
            **self.options.solver,
        )

    def follow(self, interval_s: float) -> Iterator[ReconstructionResult]:
        """Stitch what the network sees of new patterns, and solve when the store is finished."""
        options = self.options
        if self.bundle is None:
            raise ConfigurationError("following a store needs a model, which sees new patterns")
        if self.config is not None or options.groups_per_position != 1 or options.seeds != "every":
            raise ConfigurationError(
                "config, groups_per_position and seeds are not available while following a "
                "store: every pattern is used as it comes"
            )
        return follow_store(
            self.reconstructor(),
            self.store,
            finish=lambda grown: replace(self, store=grown).result(),
            interval_s=interval_s,
            grid=self.grid,
            should_stop=self.should_stop,
        )

    def reconstructor(self) -> Reconstructor:
        """Return the network with its options of stitching."""
        if self.bundle is None:
            raise ConfigurationError(
                "start='network' needs a model: reconstruct(bundle, store), or --model_path"
            )
        return Reconstructor(
            bundle=self.bundle,
            execution=self.execution,
            experiment=self.experiment,
            align_phases=self.options.align_phases,
            placement=self.options.placement,
            weight=self.options.weight,
            scratch_folder=self.options.solver["scratch_folder"],
        )

    def _by_network(self, grid: ObjectGrid, watch: ProgressMonitor) -> ReconstructionResult:
        """Stitch what the network sees in each group."""
        recipe, options, store = self.reconstructor(), self.options, self.store
        groups = groups_of(
            store,
            self.experiment,
            recipe.bundle.config,
            self.config,
            options.groups_per_position,
            options.seeds,
        )
        # Stitching a group is a step, as predicting it is.
        watch.total += len(groups) * (1 + options.align_phases)
        budget = parse_bytes(options.solver["canvas_budget"])
        folder = canvas_folder(grid, budget, recipe.scratch_folder)
        stitched = recipe.stitch(
            store, groups, grid, watch, canvas_folder=folder, keeps_halves=folder is None
        )
        stitching = time.perf_counter()
        obj, coverage = stitched.accumulator.result()
        frc = None if folder else split_frc(*stitched.accumulator.halves(), coverage)
        # In place: a second object may not fit.
        obj *= np.float32(stitched.factor)
        stitched.seconds["stitch"] += time.perf_counter() - stitching
        return replace(recipe.result(store, stitched, grid, obj, coverage), frc=frc)

    def _solved(
        self,
        start: SolverStart,
        grid: ObjectGrid,
        watch: ProgressMonitor,
        network: ReconstructionResult | None,
    ) -> ReconstructionResult:
        """Solve, and judge the result."""
        began, store, options = time.perf_counter(), self.store, self._solver_options
        solver = make_solver(store, self.experiment, options, start)
        read = time.perf_counter()
        for state in solver.run(
            grid=grid, should_stop=watch.asks_to_stop, on_patterns=watch.advance
        ):
            logger.info("pass %d of %d: misfit R %.4f", state.number, state.passes, state.misfit)
            if self.on_pass is not None and self.on_pass(state) is True:
                solver.stopped_by = "request"
                break
        solved = time.perf_counter()
        fit = self._judge(solver, options, watch)
        obj = solver.object_on(grid)
        coverage, is_dark = solver.coverage_on(grid)
        obj[is_dark] = 0
        limit_unlit(obj, coverage)
        rows = np.flatnonzero(store.experiment_id == self.experiment)
        seconds = {
            "read": read - began,
            "solve": solved - read,
            "check": time.perf_counter() - solved,
        }
        result = ReconstructionResult(
            object=obj,
            coverage=coverage,
            origin=grid.origin,
            probe=solver.probe_found(),
            positions=solver.layout.positions.numpy().copy(),
            positions_measured=store.positions[rows],
            numbers=store.pattern_numbers(self.experiment),
            num_patches=len(rows),
            num_clipped=0,
            metadata=store.metadata_of(self.experiment),
            fit=fit,
            remarks=tuple(_remarks(solver)),
            seconds=seconds,
        )
        if network is None:
            return result
        return replace(
            result,
            losses=network.losses,
            frc=network.frc,
            saturation=network.saturation,
            num_patches=network.num_patches,
            num_clipped=network.num_clipped,
            num_dropped=network.num_dropped,
            num_duplicates=network.num_duplicates,
            without_patch=network.without_patch,
            seconds={**network.seconds, **seconds},
        )

    def _judge(self, solver: Solver, options: SolverOptions, watch: ProgressMonitor) -> Fit:
        """Compare the result with all patterns, and with some that it has not seen."""
        unknown = np.full(len(solver.layout.positions), np.nan, np.float32)
        fit = Fit(
            misfit=solver.misfit,
            deviance=solver.deviance,
            misfit_of_patterns=unknown,
            deviance_of_patterns=unknown,
            final=solver.misfit[-1] if solver.misfit else float("nan"),
            passes=len(solver.misfit),
            stopped_by=solver.stopped_by,
        )
        if watch.asks_to_stop():
            # Who stops does not want to wait for another pass.
            return fit
        misfit, deviance = solver.misfit_of_patterns()
        fit = replace(
            fit,
            misfit_of_patterns=misfit,
            deviance_of_patterns=deviance,
            final=solver.final_misfit,
        )
        logger.info("misfit R of the result over all patterns: %.4f", fit.final)
        if not self.options.checks_fit:
            return fit
        rows = np.flatnonzero(self.store.experiment_id == self.experiment)
        chosen = neighbours_of_middle(solver.layout.positions.numpy(), _JUDGED)
        patterns = self.store.diffraction(rows[chosen]).astype(np.float32)
        counts = patterns if self.store.measurement_domain == "counts" else patterns**2
        good = ~self.store.bad_pixels[self.experiment]
        short = replace(options, passes=_JUDGING_PASSES, minutes=None, probe_modes=None)
        held_out, twin = judge_result(
            solver, counts * good, chosen, good, short, should_stop=watch.asks_to_stop
        )
        if held_out is not None:
            logger.info(
                "patterns left out of a short run: misfit R %.4f, skill %.3f, explained %.2f",
                held_out.misfit,
                held_out.skill,
                held_out.explained,
            )
        return replace(fit, held_out=held_out, twin=twin)


def _remarks(solver: Solver) -> list[str]:
    """Return what a user should know of the run itself."""
    remarks = []
    if solver.stopped_by == "divergence":
        remarks.append(
            "there is no result: the misfit rises from pass to pass, even with short steps; "
            "probe and patterns do not belong together"
        )
    if solver.probe_moves and solver.stopped_by != "request":
        remarks.append(
            f"the probe still changes by {solver.probe_change[-1]:.1%} a pass after "
            f"{len(solver.misfit)} passes: it has not converged; go on from this result with "
            "--start, or give more --passes"
        )
    return remarks


def follow(
    bundle: ModelBundle, store: GroupStore, *, interval_s: float = 5.0, **options: Any
) -> Iterator[ReconstructionResult]:
    """Reconstruct a store while it grows.

    Parameters
    ----------
    bundle : ModelBundle
        The trained model, which sees each new pattern.
    store : GroupStore
        The growing store.
    interval_s : float
        Seconds between two results, at least.
    **options
        As `reconstruct` takes them.

    Yields
    ------
    ReconstructionResult
        The object so far whenever there are new patterns, marked as partial; in the end that of
        the finished store.
    """
    results: Any = reconstruct(bundle, store, follow=True, interval_s=interval_s, **options)
    yield from results
