"""One reconstruction: a network's start, the solver, and what is said of the result."""

import logging
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, get_args

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from ptychostream.config import InferenceConfig, PyTorchExecutionConfig
from ptychostream.datasets.store import GroupStore
from ptychostream.errors import ConfigurationError
from ptychostream.evaluation import split_frc
from ptychostream.geometry import ObjectGrid
from ptychostream.memory import parse_bytes
from ptychostream.progress import ProgressMonitor, progress_bar
from ptychostream.reconstruction.grid import canvas_folder, grid_of, limit_unlit
from ptychostream.reconstruction.groups import Seeds, groups_of
from ptychostream.reconstruction.joining import remarks_on_joining
from ptychostream.reconstruction.judgement import judge_solution, remarks_on, remarks_on_scan
from ptychostream.reconstruction.options import choose_device
from ptychostream.reconstruction.result import ReconstructionResult
from ptychostream.solver.options import SolverOptions
from ptychostream.solver.ranks import Ranks
from ptychostream.solver.solution import SolverState
from ptychostream.solver.start import (
    SolverStart,
    make_solver,
    read_start,
    rows_of,
    solver_options,
)
from ptychostream.stitching import Placement, WeightName

if TYPE_CHECKING:
    from ptychostream.persistence.bundle import ModelBundle
    from ptychostream.reconstruction.follow import Live
    from ptychostream.reconstruction.reconstructor import Reconstructor

logger = logging.getLogger(__name__)

#: Called after each pass; True ends the run with what there is.
OnPass = Callable[[SolverState], object]


@dataclass(frozen=True, eq=False, kw_only=True)
class ReconstructionOptions:
    """What a reconstruction is asked for, beside the solver's own options.

    `align_phases`: whether the global phase of each patch is found from its neighbours before
        stitching.
    `groups_per_position`: groups drawn around each position; their patches are averaged.
    `seeds`: positions around which groups are drawn: `every` one, or `covering`, just enough that
        each pattern is in a group.
    `placement`: how patches are placed between pixels: `fourier`, or `bilinear`.
    `weight`: trust in each patch pixel: `probe`, `uniform`, or weights of your own.
    `rescale_patches`: whether each patch of the network is scaled to fit the amplitudes of its own
        pattern best, before it is stitched.
    `passes`: passes of the solver; None is its usual number, 0 leaves the network's object.
    `checks_fit`: whether the result is judged by patterns left out of a short extra run.
    `solver`: options of the solver by name; None is left to the scan.
    """

    align_phases: bool = True
    groups_per_position: int = 1
    seeds: Seeds = "every"
    placement: Placement = "fourier"
    weight: WeightName | Tensor = "probe"
    rescale_patches: bool = False
    passes: int | None = None
    checks_fit: bool = True
    solver: dict[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        """Check names and numbers."""
        if self.passes is not None and (not isinstance(self.passes, int) or self.passes < 0):
            raise ConfigurationError(f"passes={self.passes} must be 0, 1, 2, …")
        for name, kind in (("seeds", Seeds), ("placement", Placement)):
            value, known = getattr(self, name), get_args(kind)
            if value not in known:
                raise ConfigurationError(f"{name}={value!r} is unknown; choose one of {known}")


@dataclass(frozen=True, eq=False, kw_only=True)
class Run:
    """One reconstruction: what it is made from, and what it is asked for."""

    store: GroupStore
    bundle: "ModelBundle | None"
    experiments: tuple[int, ...]
    options: ReconstructionOptions
    execution: PyTorchExecutionConfig
    start: str | Path | NDArray[np.complex64] | SolverStart
    config: InferenceConfig | None
    grid: ObjectGrid | None
    on_progress: Callable[[int, int], object] | None
    on_pass: OnPass | None
    should_stop: Callable[[], bool] | None
    ranks: Ranks = field(default_factory=Ranks)

    def result(self) -> ReconstructionResult:
        """Let the network see the patterns, if there is one, and solve."""
        began, store = time.perf_counter(), self.store
        logger.info("reconstructing on %s", choose_device(self.execution.accelerator))
        grid = self.grid or grid_of(store, self.experiments, pads=self.execution.pad_eval)
        passes = self._solver_options.passes if self.options.passes != 0 else 0
        bar = progress_bar(
            "reconstructing", self.on_progress, is_shown=self.execution.enable_progress_bar
        )
        with bar as told, ProgressMonitor(told, self.should_stop) as watch:
            watch.total = len(rows_of(store, self.experiments)) * passes
            result, start = self._beginning(grid, watch)
            # Several processes stop together, in the solver.
            goes_on = self.ranks.size > 1 or not watch.asks_to_stop()
            if result is None or (passes and goes_on):
                result = self.solved(start, grid, watch, network=result)
        seconds = result.seconds | {"total": time.perf_counter() - began}
        remarks = (*remarks_on_scan(store, self.experiments), *result.remarks)
        result = replace(result, seconds=seconds, is_partial=watch.is_stopped, remarks=remarks)
        for text in result.warnings():
            logger.warning("%s", text)
        return result

    def _beginning(
        self, grid: ObjectGrid, watch: ProgressMonitor
    ) -> tuple[ReconstructionResult | None, SolverStart]:
        """Return what the network sees, if it is asked, and what the solver starts from.

        Of several processes the first one has it; the others get their parts of the object later.
        """
        result, start = None, SolverStart()
        if self.ranks.number == 0:
            if isinstance(self.start, str) and self.start == "network":
                result = self._by_network(grid, watch)
                start = SolverStart(object=result.object, grid=grid, probe=result.probe)
            else:
                start = read_start(self.start, grid)
        told = self.ranks.of_first(replace(start, object=None))
        return result, replace(told, object=start.object)

    @property
    def _solver_options(self) -> SolverOptions:
        return solver_options(
            self.store,
            self.experiments,
            passes=self.options.passes or None,
            device=str(choose_device(self.execution.accelerator)),
            **self.options.solver,
        )

    def follow(self, interval_s: float) -> Iterator[ReconstructionResult]:
        """Show what the network sees, or what the solver has, while the store grows."""
        options = self.options
        if self.config is not None or options.groups_per_position != 1 or options.seeds != "every":
            raise ConfigurationError(
                "config, groups_per_position and seeds are not available while following a "
                "store: every pattern is used as it comes"
            )
        from ptychostream.reconstruction.follow import follow_store

        return follow_store(
            self._live(), self.store, interval_s=interval_s, should_stop=self.should_stop
        )

    def _live(self) -> "Live":
        """Return what shows the object while the store grows."""
        if self.bundle is not None:
            from ptychostream.reconstruction.follow import LiveStitching

            return LiveStitching(
                self.reconstructor(),
                grid=self.grid,
                finish=lambda grown: replace(self, store=grown).result(),
            )

        from ptychostream.reconstruction.follow_solver import LiveSolver

        def solve(
            grown: GroupStore, start: SolverStart, passes: int, watch: ProgressMonitor
        ) -> ReconstructionResult:
            options = replace(self.options, passes=passes, checks_fit=False)
            run = replace(self, store=grown, options=options)
            return run.solved(start, self.grid or grid_of(grown, self.experiments), watch)

        return LiveSolver(
            self.experiments,
            solve=solve,
            finish=lambda grown, start: replace(self, store=grown, start=start).result(),
        )

    def reconstructor(self) -> "Reconstructor":
        """Return the network with its options of stitching."""
        if self.bundle is None:
            raise ConfigurationError(
                "start='network' needs a model: reconstruct(bundle, store), or --model_path"
            )
        # Imported for a network alone: it takes longer than a small scan.
        from ptychostream.reconstruction.reconstructor import Reconstructor

        return Reconstructor(
            bundle=self.bundle,
            execution=self.execution,
            experiment=self.experiments[0],
            align_phases=self.options.align_phases,
            placement=self.options.placement,
            weight=self.options.weight,
            rescale_patches=self.options.rescale_patches,
            scratch_folder=self.options.solver["scratch_folder"],
        )

    def _by_network(self, grid: ObjectGrid, watch: ProgressMonitor) -> ReconstructionResult:
        """Stitch what the network sees in each group."""
        recipe, options, store = self.reconstructor(), self.options, self.store
        groups = groups_of(
            store,
            self.experiments[0],
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
        result = recipe.result(store, stitched, grid, obj, coverage)
        stitch_s = result.seconds["stitch"] + time.perf_counter() - stitching
        return replace(result, frc=frc, seconds=result.seconds | {"stitch": stitch_s})

    def solved(
        self,
        start: SolverStart,
        grid: ObjectGrid,
        watch: ProgressMonitor,
        *,
        network: ReconstructionResult | None = None,
    ) -> ReconstructionResult:
        """Solve, and judge the result."""
        began, store, options = time.perf_counter(), self.store, self._solver_options
        solver = make_solver(store, self.experiments, options, start, ranks=self.ranks)
        read = time.perf_counter()
        for state in solver.run(
            grid=grid, should_stop=watch.asks_to_stop, on_patterns=watch.advance
        ):
            logger.info("pass %d of %d: misfit R %.4f", state.number, state.passes, state.misfit)
            if state.shown_to(self.on_pass):
                solver.stopped_by = "request"
                break
        solved = time.perf_counter()
        fit = judge_solution(
            solver,
            store,
            self.experiments,
            options,
            leaves_out=self.options.checks_fit,
            should_stop=watch.asks_to_stop,
        )
        obj, coverage = solver.result_on(grid)
        limit_unlit(obj, coverage)
        # Of several processes, only the first has the whole object.
        origin = solver.tiles.part_of(grid).origin if self.ranks.number else grid.origin
        rows, first = rows_of(store, self.experiments), self.experiments[0]
        is_one = len(self.experiments) == 1
        seconds = {
            "read": read - began,
            "solve": solved - read,
            "check": time.perf_counter() - solved,
        }
        result = ReconstructionResult(
            object=obj,
            coverage=coverage,
            origin=origin,
            probe=solver.probe_found(),
            positions=solver.layout.positions.numpy().copy(),
            positions_measured=store.positions[rows],
            numbers=store.pattern_numbers(first) if is_one else None,
            num_patches=len(rows),
            num_clipped=0,
            metadata=store.metadata_of(first),
            fit=fit,
            remarks=(*remarks_on(solver), *remarks_on_joining(store, self.experiments)),
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
