"""Reconstruct a store with a trained model: windows → network → object."""

import logging
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Literal, overload

import numpy as np
import torch
from torch import Tensor

from ptychostream.config import InferenceConfig, PyTorchExecutionConfig
from ptychostream.datasets.scaling import scales_of
from ptychostream.datasets.store import GroupStore
from ptychostream.datasets.store.layout import parse_bytes
from ptychostream.errors import ConfigurationError
from ptychostream.evaluation import split_frc
from ptychostream.geometry import ObjectGrid
from ptychostream.inference.follow import follow_store
from ptychostream.inference.grid import canvas_folder, choose_grid
from ptychostream.inference.groups import groups_of
from ptychostream.inference.options import (
    amplitude_limit,
    batch_size_for,
    check_execution,
    choose_device,
    choose_experiment,
)
from ptychostream.inference.power import true_power
from ptychostream.inference.predict import inference_loader, predict
from ptychostream.inference.processes import predict_in_processes
from ptychostream.inference.stitch import Stitcher
from ptychostream.persistence.bundle import ModelBundle
from ptychostream.persistence.result import ReconstructionResult
from ptychostream.physics import intensity
from ptychostream.progress import Watch, progress_bar
from ptychostream.refinement import refine_object
from ptychostream.stitching import PatchAccumulator, Placement, WeightName, patch_weight

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
    began = time.perf_counter()
    execution = execution or PyTorchExecutionConfig()
    check_execution(execution)
    if follow:
        if config is not None or groups_per_position != 1:
            raise ConfigurationError(
                "config and groups_per_position are not available with follow=True: every "
                "pattern is used as it comes"
            )
        return follow_store(
            bundle,
            store,
            finish=partial(
                reconstruct,
                bundle,
                execution=execution,
                experiment=experiment,
                align_phases=align_phases,
                refine_passes=refine_passes,
                placement=placement,
                weight=weight,
                grid=grid,
                canvas_budget=canvas_budget,
                scratch_folder=scratch_folder,
                on_progress=on_progress,
                should_stop=should_stop,
            ),
            interval_s=interval_s,
            execution=execution,
            experiment=experiment,
            align_phases=align_phases,
            placement=placement,
            weight=weight,
            grid=grid,
            should_stop=should_stop,
        )
    experiment = choose_experiment(bundle, store, experiment)
    if refine_passes < 0:
        raise ConfigurationError(f"refine_passes={refine_passes} must be at least 0")
    device = choose_device(execution.accelerator)
    model = bundle.model.for_data(store.probe, store.bad_pixels).to(device)
    rows = np.flatnonzero(store.experiment_id == experiment)
    grid = grid or choose_grid(store, experiment, store.positions[rows], pads=execution.pad_eval)
    groups = groups_of(store, experiment, bundle.config, config, groups_per_position)
    folder = canvas_folder(grid, parse_bytes(canvas_budget), scratch_folder)
    with torch.no_grad():
        chosen = torch.tensor([experiment], device=device)
        probe = model.scaled_probe(chosen)[0]
    accumulator = PatchAccumulator(
        grid,
        patch_weight(
            weight,
            intensity(probe),
            window=execution.middle_trim,
            fades=placement == "fourier",
        ),
        # What does not fit into memory does not fit into a device's either.
        device if folder is None else "cpu",
        placement=placement,
        scratch_folder=folder,
        keeps_halves=folder is None,
    )
    size = execution.inference_batch_size or batch_size_for(groups.group_size, store.N, device)
    seconds = {"read": 0.0, "predict": 0.0}
    if execution.devices > 1 and execution.strategy != "dp":
        predicted = predict_in_processes(
            bundle, store, groups, execution, size, device, seconds, scratch_folder=scratch_folder
        )
    else:
        scales = scales_of(store, bundle.config.nphotons)
        loader = inference_loader(store, groups, scales, execution, size, device)
        predicted = predict(model, loader, execution, seconds)
    stitcher = Stitcher(
        accumulator,
        store.positions,
        groups.nn_indices[:, 0] if align_phases else None,
        scratch_folder=scratch_folder,
        amplitude_limit=amplitude_limit(bundle.config.model),
    )
    bar = progress_bar("reconstructing", on_progress, is_shown=execution.enable_progress_bar)
    with bar as told, Watch(told, should_stop) as watch:
        # Stitching a group is a step, as predicting it is, and a pass over a position.
        watch.total = len(groups) * (1 + align_phases) + len(rows) * refine_passes
        try:
            stitcher.run(predicted, watch)
        finally:
            predicted.close()
            stitcher.close()
        stitching = time.perf_counter()
        obj, coverage = accumulator.result()
        frc = None if folder else split_frc(*accumulator.halves(), coverage)
        seconds["stitch"] = stitcher.seconds + time.perf_counter() - stitching
        refining = time.perf_counter()
        if refine_passes:
            logger.info("refining in %d passes", refine_passes)
            obj = refine_object(
                obj,
                grid,
                model,
                store,
                bundle.config,
                execution,
                experiment=experiment,
                passes=refine_passes,
                watch=watch,
                scratch_folder=folder,
            )
        seconds["refine"] = time.perf_counter() - refining
    true_probe, factor = true_power(probe, store, experiment)
    # In place: a second object may not fit.
    obj *= np.float32(factor)
    seconds["total"] = time.perf_counter() - began
    result = ReconstructionResult(
        object=obj,
        coverage=coverage,
        origin=grid.origin,
        probe=true_probe,
        positions=store.positions[rows],
        numbers=store.pattern_numbers(experiment),
        num_patches=accumulator.num_patches,
        num_clipped=accumulator.num_clipped,
        num_dropped=accumulator.num_dropped,
        num_duplicates=accumulator.num_duplicates,
        without_patch=rows[~accumulator.has_patch(rows)],
        saturation=stitcher.num_saturated / stitcher.num_lit if stitcher.num_lit else None,
        metadata=store.metadata_of(experiment),
        losses=tuple(bundle.history.get("train_loss", ())),
        seconds=seconds,
        frc=frc,
        is_partial=watch.is_stopped,
    )
    for text in result.warnings():
        logger.warning("%s", text)
    return result
