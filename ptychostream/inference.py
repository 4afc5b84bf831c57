"""Reconstruct a store with a trained model: windows → network → object."""

import logging
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch
from numpy.typing import NDArray

from ptychostream.config import PyTorchExecutionConfig
from ptychostream.datasets.loader import make_loader
from ptychostream.datasets.scaling import scales_of
from ptychostream.datasets.store import GroupStore
from ptychostream.datasets.store.groups import Groups
from ptychostream.errors import ConfigurationError, DataContractError
from ptychostream.geometry import object_grid
from ptychostream.models.probe import probe_power
from ptychostream.stitching import PatchAccumulator, PhaseAlignment

if TYPE_CHECKING:
    from ptychostream.models.pinn import PtychoPINN
    from ptychostream.persistence import ModelBundle

logger = logging.getLogger(__name__)

#: Pixels of patches per batch where no batch size is given: about 200 MB in flight.
_PIXELS_PER_BATCH = 64 * 64 * 64

#: A mean transmission that a probe of true power can explain; outside, the probe's power says
#: nothing, and the object is given a mean amplitude of one.
_PLAUSIBLE_TRANSMISSION = (0.1, 1.1)


@dataclass(frozen=True, eq=False, kw_only=True)
class ReconstructionResult:
    """An object and how it came about.

    Attributes
    ----------
    object : (H, W) complex64
        Transmission on the scan's own grid; zero where no patch lies.
    coverage : (H, W) float32
        Number of patches in whose lit area a pixel lies.
    origin : (int, int)
        Scan position (x, y) of the object's first pixel; (0, 0) unless patches reach beyond.
    probe : (P, N, N) complex64
        Illumination at the power that goes with `object`: Σ|probe · object|² is photons.
    positions : (M, 2) float64
        Scan positions (x, y) of the experiment, in pixels.
    num_patches : int
        Patches that were stitched.
    num_clipped : int
        Those of which a part lies outside the object's grid.
    seconds : dict
        Time for `predict` (with reading) and `stitch`.
    """

    object: NDArray[np.complex64]
    coverage: NDArray[np.float32]
    origin: tuple[int, int]
    probe: NDArray[np.complex64]
    positions: NDArray[np.float64]
    num_patches: int
    num_clipped: int
    seconds: dict[str, float] = field(default_factory=dict)


def reconstruct(
    bundle: "ModelBundle",
    store: GroupStore,
    *,
    execution: PyTorchExecutionConfig | None = None,
    experiment: int | None = None,
    align_phases: bool = True,
) -> ReconstructionResult:
    """Reconstruct one experiment of a store.

    Patches go to a scratch file and only thumbnails of them stay in memory, until the phases
    between them are known: memory does not grow with patterns, but for the object and some
    hundred bytes a position.

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

    Returns
    -------
    ReconstructionResult
        The object on the scan's own grid.

    Raises
    ------
    DataContractError
        If the store does not fit the model, or holds several experiments and none was chosen.
    """
    execution = execution or PyTorchExecutionConfig()
    experiment = _choose_experiment(store, experiment)
    config = bundle.config
    if store.N != config.model.N:
        raise DataContractError(
            f"'{store.path}' has patterns of {store.N} px but the model was made for "
            f"{config.model.N} px; use a model of that size"
        )
    device = choose_device(execution.accelerator)
    model = bundle.model.for_data(store.probe, store.bad_pixels).to(device)
    rows = np.flatnonzero(store.experiment_id == experiment)
    grid = object_grid(store.positions[rows], store.N, _shape_of_guess(store, experiment))
    weight = model.probe(torch.tensor([experiment], device=device))[0].abs().square().sum(0)
    accumulator = PatchAccumulator(grid, weight.detach(), device)
    began = time.perf_counter()
    with tempfile.TemporaryFile(prefix="ptychostream-patches-") as spool:
        alignment = PhaseAlignment(weight.detach().cpu())
        order: list[NDArray[np.int64]] = []
        for patches, members in _predict(model, bundle, store, experiment, execution, device):
            if not align_phases:
                accumulator.add(patches.flatten(0, 1), store.positions[members.ravel()])
                continue
            alignment.add(patches[:, 0].cpu(), store.positions[members[:, 0]])
            spool.write(patches.cpu().numpy().tobytes())
            order.append(members)
        predicted = time.perf_counter()
        if align_phases:
            turns = np.exp(1j * alignment.solve()).astype(np.complex64)
            spool.seek(0)
            at = 0
            for members in order:
                count, size = members.shape
                data = spool.read(count * size * store.N**2 * 8)
                patches = torch.frombuffer(bytearray(data), dtype=torch.complex64)
                patches = patches.reshape(count, size, store.N, store.N).to(device)
                turn = torch.as_tensor(turns[at : at + count], device=device)
                patches = patches * turn[:, None, None, None]
                accumulator.add(patches.flatten(0, 1), store.positions[members.ravel()])
                at += count
    obj, coverage = accumulator.result()
    stitched = time.perf_counter()
    if accumulator.num_clipped:
        logger.warning(
            "%d of %d patches reach beyond the object's grid of %d x %d px",
            accumulator.num_clipped,
            accumulator.num_patches,
            *grid.shape,
        )
    probe, factor = _true_power(model, store, experiment)
    return ReconstructionResult(
        object=obj * np.float32(factor),
        coverage=coverage,
        origin=grid.origin,
        probe=probe,
        positions=store.positions[rows],
        num_patches=accumulator.num_patches,
        num_clipped=accumulator.num_clipped,
        seconds={"predict": predicted - began, "stitch": stitched - predicted},
    )


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


def _choose_experiment(store: GroupStore, experiment: int | None) -> int:
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


def _shape_of_guess(store: GroupStore, experiment: int) -> tuple[int, int] | None:
    guess = store.object_guess_of(experiment)
    return None if guess is None else (guess.shape[0], guess.shape[1])


@torch.no_grad()
def _predict(
    model: "PtychoPINN",
    bundle: "ModelBundle",
    store: GroupStore,
    experiment: int,
    execution: PyTorchExecutionConfig,
    device: torch.device,
) -> Iterator[tuple[torch.Tensor, NDArray[np.int64]]]:
    """Yield patches (B, C, N, N) and their rows (B, C), one group per position."""
    config = bundle.config
    groups = store.groups(
        config.model.gridsize, config.neighbor_count, seed=config.subsample_seed or 0
    )
    here = store.experiment_id[groups.nn_indices[:, 0]] == experiment
    groups = replace(groups, nn_indices=groups.nn_indices[here])
    loader = make_loader(
        store,
        groups,
        batch_size=execution.inference_batch_size or batch_size_for(groups, store.N),
        order="storage",
        scales=scales_of(store, config.nphotons),
        memory_budget=execution.memory_budget,
        num_threads=execution.num_workers,
    )
    for batch in loader:
        members = batch["nn_indices"].numpy()
        moved = batch.to(device)
        patches = model.reconstruct(
            model.network_input(moved), moved["coords_relative"], moved["experiment_id"]
        )
        yield patches, members


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
    model: "PtychoPINN", store: GroupStore, experiment: int
) -> tuple[NDArray[np.complex64], float]:
    """Scale probe and object, which only matter as a product, to photons and transmission."""
    energy = store.energy[store.experiment_id == experiment].mean()
    given = float((np.abs(store.probe[experiment]) ** 2).sum())
    transmission = float(np.sqrt(energy / given))
    low, high = _PLAUSIBLE_TRANSMISSION
    if not low <= transmission <= high:
        logger.info(
            "the probe's power %.3g does not fit the measured %.3g per pattern: the object is "
            "given a mean amplitude of one",
            given,
            energy,
        )
        given, transmission = energy, 1.0
    device = model.log_scale.device
    beam = model.probe(torch.tensor([experiment], device=device))[0].detach().cpu().numpy()
    config = model.config
    inside = probe_power(config.N, config.probe_scale)
    learned = float(model.log_scale.detach().exp())
    factor = transmission * config.probe_scale / 2 * learned
    return (beam * np.sqrt(given / inside)).astype(np.complex64), factor
