"""Reconstruct a store with a trained model: windows → network → object."""

import logging
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any, Literal, get_args, overload

import numpy as np
from torch import Tensor

from ptychostream.config import InferenceConfig, PyTorchExecutionConfig
from ptychostream.datasets.store import GroupStore
from ptychostream.errors import ConfigurationError
from ptychostream.evaluation import split_frc
from ptychostream.geometry import ObjectGrid
from ptychostream.memory import parse_bytes
from ptychostream.persistence.bundle import ModelBundle
from ptychostream.progress import ProgressMonitor, progress_bar
from ptychostream.reconstruction.follow import follow_store
from ptychostream.reconstruction.grid import canvas_folder, choose_grid
from ptychostream.reconstruction.groups import Seeds, groups_of
from ptychostream.reconstruction.options import check_execution, choose_experiment
from ptychostream.reconstruction.reconstructor import Reconstructor
from ptychostream.reconstruction.result import ReconstructionResult
from ptychostream.solver.passes import refine_object
from ptychostream.stitching import Placement, WeightName

logger = logging.getLogger(__name__)


@overload
def reconstruct(
    bundle: ModelBundle,
    store: GroupStore,
    *,
    config: InferenceConfig | None = None,
    execution: PyTorchExecutionConfig | None = None,
    experiment: int | None = None,
    align_phases: bool = True,
    refine_passes: int = 2,
    groups_per_position: int = 1,
    seeds: Seeds = "every",
    placement: Placement = "fourier",
    weight: WeightName | Tensor = "probe",
    grid: ObjectGrid | None = None,
    canvas_budget: str | int = "4 GiB",
    scratch_folder: Path | None = None,
    on_progress: Callable[[int, int], object] | None = None,
    should_stop: Callable[[], bool] | None = None,
    follow: Literal[False] = False,
    interval_s: float = 5.0,
) -> ReconstructionResult: ...


@overload
def reconstruct(
    bundle: ModelBundle,
    store: GroupStore,
    *,
    config: InferenceConfig | None = None,
    execution: PyTorchExecutionConfig | None = None,
    experiment: int | None = None,
    align_phases: bool = True,
    refine_passes: int = 2,
    groups_per_position: int = 1,
    seeds: Seeds = "every",
    placement: Placement = "fourier",
    weight: WeightName | Tensor = "probe",
    grid: ObjectGrid | None = None,
    canvas_budget: str | int = "4 GiB",
    scratch_folder: Path | None = None,
    on_progress: Callable[[int, int], object] | None = None,
    should_stop: Callable[[], bool] | None = None,
    follow: Literal[True],
    interval_s: float = 5.0,
) -> Iterator[ReconstructionResult]: ...


def reconstruct(
    bundle: ModelBundle,
    store: GroupStore,
    *,
    config: InferenceConfig | None = None,
    execution: PyTorchExecutionConfig | None = None,
    experiment: int | None = None,
    align_phases: bool = True,
    refine_passes: int = 2,
    groups_per_position: int = 1,
    seeds: Seeds = "every",
    placement: Placement = "fourier",
    weight: WeightName | Tensor = "probe",
    grid: ObjectGrid | None = None,
    canvas_budget: str | int = "4 GiB",
    scratch_folder: Path | None = None,
    on_progress: Callable[[int, int], object] | None = None,
    should_stop: Callable[[], bool] | None = None,
    follow: bool = False,
    interval_s: float = 5.0,
) -> ReconstructionResult | Iterator[ReconstructionResult]:
    """Reconstruct one experiment of a store.

    Patterns are decoded ahead, and patches stitched in a thread, while the network predicts.
    Memory grows with the object and, by some ten bytes a position, with the tables: patches
    wait in a scratch file until the phases between them are known.

    Parameters
    ----------
    bundle : ModelBundle
        The trained model.
    store : GroupStore
        The data.
    config : InferenceConfig, optional
        Which groups: `n_groups`, `n_subsample`, `subsample_seed`, `neighbor_count`,
        `enable_oversampling` and `neighbor_pool_size`. None takes every position, and the rest
        as the model was trained.
    execution : PyTorchExecutionConfig, optional
        Devices, precision, batch size, memory budget, `middle_trim` and `pad_eval`; its options
        of training are not for here.
    experiment : int, optional
        Which experiment, where there are several.
    align_phases : bool
        Whether the global phase of each patch is found from its neighbours before stitching.
    refine_passes : int
        Passes over the patterns that refine the stitched object; 0 is the network's own.
    groups_per_position : int
        Groups drawn around each position; their patches are averaged.
    seeds : str
        Positions around which groups are drawn: `every` one, or `covering`, with gridsize 2 or
        more: just enough that each pattern is in a group, in half of the time and less.
    placement : str
        How patches are placed between pixels: `fourier`, or `bilinear`, which is quicker and
        blurs a little.
    weight : str or (N, N) float32
        Trust in each patch pixel: `probe` goes by the light on it, `uniform` trusts all alike;
        or weights of your own.
    grid : ObjectGrid, optional
        The pixels to reconstruct, in the coordinates of the scan positions; None is the grid
        of the object guess, else the smallest one that holds every patch.
    canvas_budget : str or int
        Memory for the object and its sums; a larger object is kept in files.
    scratch_folder : Path, optional
        For files that go away again; None is the system's folder for temporary files.
    on_progress : callable, optional
        Called with the steps done and their total, after every batch.
    should_stop : callable, optional
        Asked before every batch; once it returns True the result is what there is by then. So
        does an interrupt (Ctrl-C), where the host program does not handle it itself.
    follow : bool
        Whether the store is followed while it grows. What comes is then an iterator: the object
        so far whenever there are new patterns, and in the end that of the finished store.
    interval_s : float
        Seconds between two such results, at least.

    Returns
    -------
    ReconstructionResult or iterator of ReconstructionResult
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
    execution = execution or PyTorchExecutionConfig()
    check_execution(execution)
    recipe = Reconstructor(
        bundle=bundle,
        execution=execution,
        experiment=choose_experiment(bundle, store, experiment),
        align_phases=align_phases,
        placement=placement,
        weight=weight,
        scratch_folder=scratch_folder,
    )
    if scratch_folder is not None and not scratch_folder.is_dir():
        raise ConfigurationError(f"scratch_folder='{scratch_folder}' is no folder; make it first")
    if not isinstance(refine_passes, int) or refine_passes < 0:
        raise ConfigurationError(f"refine_passes={refine_passes} must be 0, 1, 2, …")
    names: tuple[tuple[str, Any, Any], ...] = (
        ("seeds", seeds, Seeds),
        ("placement", placement, Placement),
    )
    for name, value, known in names:
        if value not in get_args(known):
            raise ConfigurationError(f"{name}={value!r} is unknown; there are {get_args(known)}")
    whole = partial(
        _reconstruct,
        recipe,
        refine_passes=refine_passes,
        grid=grid,
        canvas_budget=parse_bytes(canvas_budget),
        on_progress=on_progress,
        should_stop=should_stop,
    )
    if not follow:
        return whole(store, config=config, groups_per_position=groups_per_position, seeds=seeds)
    if config is not None or groups_per_position != 1 or seeds != "every":
        raise ConfigurationError(
            "config, groups_per_position and seeds are not available with follow=True: every "
            "pattern is used as it comes"
        )
    return follow_store(
        recipe,
        store,
        finish=whole,
        interval_s=interval_s,
        grid=grid,
        should_stop=should_stop,
    )


def _reconstruct(
    recipe: Reconstructor,
    store: GroupStore,
    *,
    config: InferenceConfig | None = None,
    groups_per_position: int = 1,
    seeds: Seeds = "every",
    refine_passes: int,
    grid: ObjectGrid | None,
    canvas_budget: int,
    on_progress: Callable[[int, int], object] | None,
    should_stop: Callable[[], bool] | None,
) -> ReconstructionResult:
    """Stitch groups of a store, and refine the object."""
    began, execution, rows = time.perf_counter(), recipe.execution, recipe.rows(store)
    grid = grid or choose_grid(
        store, recipe.experiment, store.positions[rows], pads=execution.pad_eval
    )
    groups = groups_of(
        store, recipe.experiment, recipe.bundle.config, config, groups_per_position, seeds
    )
    folder = canvas_folder(grid, canvas_budget, recipe.scratch_folder)
    bar = progress_bar("reconstructing", on_progress, is_shown=execution.enable_progress_bar)
    with bar as told, ProgressMonitor(told, should_stop) as watch:
        # Stitching a group is a step, as predicting it is, and a pass over a position.
        watch.total = len(groups) * (1 + recipe.align_phases) + len(rows) * refine_passes
        stitched = recipe.stitch(
            store, groups, grid, watch, canvas_folder=folder, keeps_halves=folder is None
        )
        stitching = time.perf_counter()
        obj, coverage = stitched.accumulator.result()
        frc = None if folder else split_frc(*stitched.accumulator.halves(), coverage)
        stitched.seconds["stitch"] += time.perf_counter() - stitching
        refining = time.perf_counter()
        if refine_passes:
            logger.info("refining in %d passes", refine_passes)
            obj = refine_object(
                obj,
                grid,
                recipe.model(store),
                store,
                recipe.bundle.config,
                execution,
                experiment=recipe.experiment,
                passes=refine_passes,
                watch=watch,
                scratch_folder=folder,
            )
        stitched.seconds["refine"] = time.perf_counter() - refining
    # In place: a second object may not fit.
    obj *= np.float32(stitched.factor)
    stitched.seconds["total"] = time.perf_counter() - began
    result = replace(
        recipe.result(store, stitched, grid, obj, coverage), frc=frc, is_partial=watch.is_stopped
    )
    for text in result.warnings():
        logger.warning("%s", text)
    return result
