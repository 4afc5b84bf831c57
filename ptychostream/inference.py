"""Reconstruct a store with a trained model: windows → network → object."""

import logging
import time
from collections.abc import Callable
from dataclasses import replace

import numpy as np
import torch
from numpy.typing import NDArray

from ptychostream.config import PyTorchExecutionConfig, TrainingConfig
from ptychostream.datasets.loader import GroupLoader, make_loader
from ptychostream.datasets.scaling import scales_of
from ptychostream.datasets.store import GroupStore
from ptychostream.datasets.store.groups import Groups
from ptychostream.errors import ConfigurationError, DataContractError
from ptychostream.geometry import ObjectGrid, object_grid
from ptychostream.models.pinn import PtychoPINN
from ptychostream.persistence.bundle import ModelBundle
from ptychostream.persistence.result import ReconstructionResult
from ptychostream.physics import intensity
from ptychostream.progress import Watch
from ptychostream.refinement import refine_object
from ptychostream.stitching import PatchAccumulator, PatchSpool, PhaseAlignment

logger = logging.getLogger(__name__)

#: Pixels of patches per batch where no batch size is given: about 200 MB in flight.
_PIXELS_PER_BATCH = 64 * 64 * 64

#: A mean transmission that a probe of true power can explain; outside, the probe's power says
#: nothing, and the object is given a mean amplitude of one.
_PLAUSIBLE_TRANSMISSION = (0.1, 1.1)


def reconstruct(
    bundle: ModelBundle,
    store: GroupStore,
    *,
    execution: PyTorchExecutionConfig | None = None,
    experiment: int | None = None,
    align_phases: bool = True,
    refine_passes: int = 2,
    grid: ObjectGrid | None = None,
    on_progress: Callable[[int, int], object] | None = None,
    should_stop: Callable[[], bool] | None = None,
) -> ReconstructionResult:
    """Reconstruct one experiment of a store.

    Patches go to a scratch file and only thumbnails of them stay in memory, until the phases
    between them are known: memory grows with the object, and by some kilobytes a position
    for the thumbnails.

    Parameters
    ----------
    bundle : ModelBundle
        The trained model.
    store : GroupStore
        The data.
    execution : PyTorchExecutionConfig, optional
        Device, batch size and memory budget.
    experiment : int, optional
        Which experiment, where there are several.
    align_phases : bool
        Whether the global phase of each patch is found from its neighbours before stitching.
    refine_passes : int
        Passes over the patterns that refine the stitched object; 0 is the network's own.
    grid : ObjectGrid, optional
        The pixels to reconstruct, in the coordinates of the scan positions; None is the grid
        of the object guess, else the smallest one that holds every patch.
    on_progress : callable, optional
        Called with the steps done and their total, after every batch.
    should_stop : callable, optional
        Asked before every batch; once it returns True the result is what there is by then. So
        does an interrupt (Ctrl-C), where the host program does not handle it itself.

    Returns
    -------
    ReconstructionResult
        The object, on the scan's own grid unless another was asked for; `is_partial` says
        whether it was stopped early.

    Raises
    ------
    DataContractError
        If the store does not fit the model, or holds several experiments and none was chosen.
    """
    execution = execution or PyTorchExecutionConfig()
    experiment = choose_experiment(bundle, store, experiment)
    config = bundle.config
    if refine_passes < 0:
        raise ConfigurationError(f"refine_passes={refine_passes} must be at least 0")
    device = choose_device(execution.accelerator)
    model = bundle.model.for_data(store.probe, store.bad_pixels).to(device)
    rows = np.flatnonzero(store.experiment_id == experiment)
    guess = store.object_guess_of(experiment)
    shape = None if guess is None else (guess.shape[0], guess.shape[1])
    grid = grid or object_grid(store.positions[rows], store.N, shape)
    chosen = torch.tensor([experiment], device=device)
    probe = model.scaled_probe(chosen)[0].detach()
    accumulator = PatchAccumulator(grid, intensity(probe), device)
    with Watch(on_progress, should_stop) as watch:
        # Stitching a group is a step, as predicting it is, and a pass over its seed.
        watch.total = len(rows) * (1 + align_phases + refine_passes)
        seconds = _stitch(
            model, config, store, experiment, execution, accumulator, align_phases, watch
        )
        obj, coverage = accumulator.result()
        began = time.perf_counter()
        if refine_passes:
            logger.info("refining in %d passes", refine_passes)
            obj = refine_object(
                obj,
                grid,
                model,
                store,
                config,
                execution,
                experiment=experiment,
                passes=refine_passes,
                watch=watch,
            )
        seconds["refine"] = time.perf_counter() - began
    if accumulator.num_clipped:
        logger.warning(
            "%d of %d patches reach beyond the object's grid of %d x %d px",
            accumulator.num_clipped,
            accumulator.num_patches,
            *grid.shape,
        )
    true_probe, factor = _true_power(model, probe, store, experiment)
    return ReconstructionResult(
        object=obj * np.float32(factor),
        coverage=coverage,
        origin=grid.origin,
        probe=true_probe,
        positions=store.positions[rows],
        num_patches=accumulator.num_patches,
        num_clipped=accumulator.num_clipped,
        metadata=store.metadata_of(experiment),
        losses=tuple(bundle.history.get("train_loss", ())),
        seconds=seconds,
        is_partial=watch.is_stopped,
    )


@torch.no_grad()
def _stitch(
    model: PtychoPINN,
    config: TrainingConfig,
    store: GroupStore,
    experiment: int,
    execution: PyTorchExecutionConfig,
    accumulator: PatchAccumulator,
    align_phases: bool,
    watch: Watch,
) -> dict[str, float]:
    """Predict all patches and add them up; returns the time that each part took."""
    began = time.perf_counter()
    loader = _loader(config, store, experiment, execution)
    stitching = 0.0
    with PatchSpool(store.N) as spool:
        alignment = PhaseAlignment(accumulator.weight.cpu())
        for batch in watch.steps(loader, len):
            members = batch["nn_indices"].numpy()
            moved = batch.to(accumulator.weight.device)
            patches = model.reconstruct(
                model.network_input(moved), moved["coords_relative"], moved["experiment_id"]
            )
            paused = time.perf_counter()
            if align_phases:
                alignment.add(patches[:, 0].cpu(), store.positions[members[:, 0]])
                spool.append(patches, members)
            else:
                accumulator.add(patches.flatten(0, 1), store.positions[members.ravel()])
            stitching += time.perf_counter() - paused
        predicted = time.perf_counter() - stitching
        if align_phases:
            turns = np.exp(1j * alignment.solve()).astype(np.complex64)
            at = 0
            for patches, members in spool:
                turn = torch.as_tensor(turns[at : at + len(patches)])[:, None, None, None]
                patches = (patches * turn).to(accumulator.weight.device)
                accumulator.add(patches.flatten(0, 1), store.positions[members.ravel()])
                at += len(patches)
                watch.advance(len(patches))
    return {"predict": predicted - began, "stitch": time.perf_counter() - predicted}


def choose_device(accelerator: str) -> torch.device:
    """Turn an accelerator's name into a device, and say which one it is.

    Parameters
    ----------
    accelerator : str
        As in `PyTorchExecutionConfig`.

    Returns
    -------
    torch.device
        The device.

    Raises
    ------
    ConfigurationError
        If the machine has no such device.
    """
    available = {"cuda": torch.cuda.is_available(), "mps": torch.backends.mps.is_available()}
    wanted = {"gpu": "mps" if available["mps"] else "cuda"}.get(accelerator, accelerator)
    if wanted == "auto":
        wanted = next((name for name, present in available.items() if present), "cpu")
    if not available.get(wanted, True):
        raise ConfigurationError(
            f"accelerator={accelerator!r} was asked for but this machine has none; use 'cpu'"
        )
    logger.info("reconstructing on %s", wanted)
    return torch.device(wanted)


def choose_experiment(bundle: ModelBundle, store: GroupStore, experiment: int | None) -> int:
    """Find the experiment to reconstruct, and check that the model fits it.

    Parameters
    ----------
    bundle : ModelBundle
        The model.
    store : GroupStore
        The data.
    experiment : int, optional
        Which experiment; None is the only one.

    Returns
    -------
    int
        The experiment.

    Raises
    ------
    DataContractError
        If there are several and none was chosen, or the patterns have another size.
    """
    if store.N != bundle.config.model.N:
        raise DataContractError(
            f"'{store.path}' has patterns of {store.N} px but the model was made for "
            f"{bundle.config.model.N} px; use a model of that size"
        )
    if experiment is None and store.num_experiments > 1:
        raise DataContractError(
            f"'{store.path}' holds {store.num_experiments} experiments; choose one: experiment=0"
        )
    experiment = experiment or 0
    if not 0 <= experiment < store.num_experiments:
        raise DataContractError(
            f"'{store.path}' has no experiment {experiment}; it holds {store.num_experiments}"
        )
    return experiment


def _loader(
    config: TrainingConfig, store: GroupStore, experiment: int, execution: PyTorchExecutionConfig
) -> GroupLoader:
    """Serve one group per position of an experiment."""
    groups = store.groups(
        config.model.gridsize, config.neighbor_count, seed=config.subsample_seed or 0
    )
    here = store.experiment_id[groups.nn_indices[:, 0]] == experiment
    groups = replace(groups, nn_indices=groups.nn_indices[here])
    return make_loader(
        store,
        groups,
        batch_size=execution.inference_batch_size or batch_size_for(groups, store.N),
        order="storage",
        scales=scales_of(store, config.nphotons),
        memory_budget=execution.memory_budget,
        num_threads=execution.num_workers,
    )


def batch_size_for(groups: Groups, patch_size: int) -> int:
    """Choose how many groups are predicted together.

    Parameters
    ----------
    groups : Groups
        The groups.
    patch_size : int
        Edge N.

    Returns
    -------
    int
        Groups per batch.
    """
    return max(1, _PIXELS_PER_BATCH // (groups.group_size * patch_size**2))


def _true_power(
    model: PtychoPINN, probe: torch.Tensor, store: GroupStore, experiment: int
) -> tuple[NDArray[np.complex64], float]:
    """Scale probe and object, of which only the product is known, to photons and transmission."""
    energy = float(store.energy[store.experiment_id == experiment].mean())
    given = float((np.abs(store.probe[experiment]) ** 2).sum())
    low, high = _PLAUSIBLE_TRANSMISSION
    if not low <= np.sqrt(energy / given) <= high:
        logger.info(
            "the probe's power %.3g does not fit the measured %.3g per pattern: the object is "
            "given a mean amplitude of one",
            given,
            energy,
        )
        given = energy
    inside = float(intensity(probe).sum())
    # Amplitudes in the model are (N/2) / √energy times the measured ones.
    unit = (store.N / 2) / np.sqrt(energy)
    probe_factor = np.sqrt(given / inside)
    beam = (probe * probe_factor).cpu().numpy().astype(np.complex64)
    return beam, float(1 / (unit * probe_factor))
