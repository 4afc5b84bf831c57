"""Pass over a store's patterns to refine an object, or to find a better probe."""

import logging
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from ptychostream.config import PyTorchExecutionConfig, TrainingConfig
from ptychostream.datasets.batches.loader import GroupLoader, make_loader
from ptychostream.datasets.batches.scaling import scales_of
from ptychostream.datasets.store import GroupStore
from ptychostream.geometry import ObjectGrid, object_grid
from ptychostream.models.pinn import PtychoPINN
from ptychostream.progress import ProgressMonitor, ShouldStop
from ptychostream.solver.update import ObjectRefinement

logger = logging.getLogger(__name__)

#: Patterns per update: few, since each update uses the one before.
_BATCH = 16

#: Passes that find a probe, and those before them in which only the object is found.
PROBE_PASSES, OBJECT_FIRST = 15, 2


def refine_object(
    obj: NDArray[np.complex64],
    grid: ObjectGrid,
    model: PtychoPINN,
    store: GroupStore,
    config: TrainingConfig,
    execution: PyTorchExecutionConfig,
    *,
    experiment: int,
    passes: int,
    watch: ProgressMonitor,
    scratch_folder: Path | None = None,
) -> NDArray[np.complex64]:
    """Refine a stitched object against all patterns of its experiment.

    Parameters
    ----------
    obj : (H, W) complex64
        The object, in the model's unit.
    scratch_folder : Path, optional
        Where the object lies in a file; None is in memory.

    Returns
    -------
    (H, W) complex64
        The refined object, as far as it went.
    """
    probe = model.scaled_probe(torch.tensor([experiment], device=model.log_scale.device))[0]
    refinement = ObjectRefinement(
        obj, grid, probe.detach(), model.good_pixels[experiment], scratch_folder=scratch_folder
    )
    _run(refinement, model, store, config, execution, experiment, passes, watch, probe_after=None)
    return refinement.result()


def refine_probes(
    model: PtychoPINN,
    store: GroupStore,
    config: TrainingConfig,
    execution: PyTorchExecutionConfig,
    should_stop: ShouldStop | None = None,
) -> None:
    """Give a model better probes than the store's guesses, before it is trained.

    Object and probe of each experiment are solved for together, from a flat object. The
    probe that comes out replaces the model's; a gradient alone finds a distant probe only slowly.

    Parameters
    ----------
    should_stop : callable, optional
        Asked after each batch; True ends the refinement with what there is.
    """
    for experiment in range(store.num_experiments):
        with torch.no_grad():
            guess = model.scaled_probe(torch.tensor([experiment]))[0].clone()
            # With a flat object of one, the probe alone carries the measured energy.
            level = (store.N / 2) / guess.abs().square().sum().sqrt()
        positions = store.positions[store.experiment_id == experiment]
        grid = object_grid(positions, store.N)
        flat = np.ones(grid.shape, np.complex64)
        refinement = ObjectRefinement(flat, grid, guess * level, model.good_pixels[experiment])
        _run(
            refinement,
            model,
            store,
            config,
            execution,
            experiment,
            PROBE_PASSES,
            ProgressMonitor(should_stop=should_stop),
            probe_after=OBJECT_FIRST,
        )
        found = refinement.probe
        overlap = torch.vdot(found.flatten(), guess.flatten()).abs()
        likeness = overlap / (found.norm() * guess.norm())
        logger.info(
            "probe of experiment %d refined: correlation with the guess %.3f", experiment, likeness
        )
        with torch.no_grad():
            kept = found * (guess.norm() / found.norm())
            model.probe.parts[experiment] = torch.view_as_real(kept)
            # A mask of the probe has acted on the guess, and acts on what was found of it again.
            now = model.scaled_probe(torch.tensor([experiment]))[0]
            model.probe.parts[experiment] *= guess.norm() / now.norm()


def _run(
    refinement: ObjectRefinement,
    model: PtychoPINN,
    store: GroupStore,
    config: TrainingConfig,
    execution: PyTorchExecutionConfig,
    experiment: int,
    passes: int,
    watch: ProgressMonitor,
    *,
    probe_after: int | None,
) -> None:
    device = refinement.probe.device
    loader = _one_by_one(config, store, experiment, execution).to(device)
    for number in range(passes):
        if watch.is_stopped:
            return
        loader.set_epoch(number)
        with_probe = probe_after is not None and number >= probe_after
        for batch in watch.steps(loader, len):
            rows = batch["nn_indices"][:, 0].cpu().numpy()
            amplitude = model.network_input(batch)[:, 0]
            refinement.update(amplitude, store.positions[rows], with_probe=with_probe)


def _one_by_one(
    config: TrainingConfig,
    store: GroupStore,
    experiment: int,
    execution: PyTorchExecutionConfig,
) -> GroupLoader:
    groups = store.groups(1, config.neighbor_count, seed=config.subsample_seed or 0)
    here = store.experiment_id[groups.nn_indices[:, 0]] == experiment
    return make_loader(
        store,
        replace(groups, nn_indices=groups.nn_indices[here]),
        batch_size=_BATCH,
        order="shuffled",
        seed=config.subsample_seed or 0,
        scales=scales_of(store, config.nphotons),
        memory_budget=execution.memory_budget,
        num_threads=execution.num_workers,
    )
