"""Reconstruct an experiment of a store: by the solver alone, or from a network's start."""

import logging
import warnings
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from ptychostream.config import InferenceConfig, PyTorchExecutionConfig
from ptychostream.config.execution import check_execution_type
from ptychostream.datasets.store import GroupStore
from ptychostream.errors import ConfigurationError
from ptychostream.geometry import ObjectGrid
from ptychostream.reconstruction.groups import Seeds
from ptychostream.reconstruction.joining import check_joining
from ptychostream.reconstruction.options import check_execution, choose_experiment
from ptychostream.reconstruction.result import ReconstructionResult
from ptychostream.reconstruction.run import OnPass, ReconstructionOptions, Run
from ptychostream.solver.ranks import Ranks
from ptychostream.solver.start import chosen_experiments
from ptychostream.stitching import Placement, WeightName

if TYPE_CHECKING:
    from ptychostream.persistence.bundle import ModelBundle

logger = logging.getLogger(__name__)

#: Field of `InferenceConfig` that is for PtychoPINN's programs → where it is said here.
_ELSEWHERE = {
    "model_path": "pass the model",
    "test_data_file": "pass the store",
    "output_dir": "nothing is written; `reconstruction.result.save_result` writes a result",
    "debug": "set the level of the logger 'ptychostream'",
}


def reconstruct(
    bundle: "ModelBundle | GroupStore",
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
    experiment: int | Sequence[int] | None = None,
    config: InferenceConfig | None = None,
    execution: PyTorchExecutionConfig | None = None,
    align_phases: bool = True,
    groups_per_position: int = 1,
    seeds: Seeds = "every",
    placement: Placement = "fourier",
    weight: WeightName | Tensor = "probe",
    rescale_patches: bool = False,
    grid: ObjectGrid | None = None,
    memory_budget: str | int | None = None,
    canvas_budget: str | int = "4 GiB",
    scratch_folder: Path | None = None,
    on_progress: Callable[[int, int], object] | None = None,
    on_pass: OnPass | None = None,
    should_stop: Callable[[], bool] | None = None,
    ranks: Ranks | None = None,
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
    experiment : int or sequence of int, optional
        Which experiment, where there are several; or, without a model, those that are joined to
        one object: parts of one stage, lit by the probe of the first.
    config : InferenceConfig, optional
        Which groups the network sees: `n_groups`, `n_subsample`, `subsample_seed`,
        `neighbor_count`, `enable_oversampling` and `neighbor_pool_size`. None takes every
        position, and the rest as the model was trained. Files, folders and `debug` of it do
        nothing here, which a warning says.
    execution : PyTorchExecutionConfig, optional
        Devices, precision, batch size, memory budget, `middle_trim` and `pad_eval`; its options
        of training are not for here.
    align_phases, groups_per_position, seeds, placement, weight, rescale_patches : optional
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
        Called with the `SolverState` after every pass; True ends the passes. Of several processes,
        the first one calls it.
    should_stop : callable, optional
        Asked before every batch; once it returns True the result is what there is by then. So
        does an interrupt (Ctrl-C), where the host program does not handle it itself.
    ranks : Ranks, optional
        The processes that solve together, from `joined_ranks`; each calls this with the same
        arguments. In the end the first one has the whole object, and each other one the part that
        it solved for. None is this process alone.
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
    model = None if isinstance(bundle, GroupStore) else bundle
    if store is None:
        if not isinstance(bundle, GroupStore):
            raise ConfigurationError("reconstruct(bundle, store) needs a store after the model")
        store = bundle
    check_execution_type(execution)
    execution = execution or PyTorchExecutionConfig()
    check_execution(execution)
    _name_what_is_elsewhere(config)
    if scratch_folder is not None and not scratch_folder.is_dir():
        raise ConfigurationError(f"scratch_folder='{scratch_folder}' is no folder; make it first")
    options = ReconstructionOptions(
        align_phases=align_phases,
        groups_per_position=groups_per_position,
        seeds=seeds,
        placement=placement,
        weight=weight,
        rescale_patches=rescale_patches,
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
    run = Run(
        store=store,
        bundle=model,
        experiments=_chosen(model, store, experiment),
        options=options,
        execution=execution,
        start="network" if by_network else "flat" if start is None else start,
        config=config,
        grid=grid,
        on_progress=on_progress,
        on_pass=on_pass,
        should_stop=should_stop,
        ranks=ranks or Ranks(),
    )
    if run.ranks.size > 1 and (follow or passes == 0):
        raise ConfigurationError(
            f"{'follow' if follow else 'passes=0'} is for one process: there is nothing that "
            "several could share"
        )
    if not follow:
        return run.result()
    return cast(ReconstructionResult, run.follow(interval_s))


def _name_what_is_elsewhere(config: InferenceConfig | None) -> None:
    """Warn of fields that do nothing in this call."""
    for name, advice in _ELSEWHERE.items():
        value = getattr(config, name, None)
        if config is not None and value != getattr(InferenceConfig(), name):
            logger.warning("InferenceConfig's %s=%r does nothing here: %s", name, value, advice)


def _chosen(
    model: "ModelBundle | None", store: GroupStore, experiment: int | Sequence[int] | None
) -> tuple[int, ...]:
    """Return the experiments that are asked for, checked."""
    if model is None:
        chosen = chosen_experiments(store, experiment)
        check_joining(store, chosen)
        return chosen
    if not (experiment is None or isinstance(experiment, int)):
        raise ConfigurationError(
            f"experiment={list(experiment)}: joining experiments is for the solver alone; leave "
            "the model out"
        )
    return (choose_experiment(model, store, experiment),)


def follow(
    bundle: "ModelBundle | GroupStore",
    store: GroupStore | None = None,
    *,
    interval_s: float = 5.0,
    **options: Any,
) -> Iterator[ReconstructionResult]:
    """Reconstruct a store while it grows.

    Parameters
    ----------
    bundle : ModelBundle or GroupStore
        The trained model, which sees each new pattern; or the growing store, which the solver
        goes on with as patterns come.
    store : GroupStore, optional
        The growing store, after a model.
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
