"""Train a network on a store."""

import hashlib
import logging
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray

from ptychostream.config import PyTorchExecutionConfig, TrainingConfig
from ptychostream.datasets.batches.loader import GroupLoader, make_loader
from ptychostream.datasets.batches.sampler import Order
from ptychostream.datasets.batches.scaling import Scales, scales_of, with_scaling_profile
from ptychostream.datasets.batches.selection import select_groups
from ptychostream.datasets.batches.split import split_by_position
from ptychostream.datasets.batches.windows import AHEAD
from ptychostream.datasets.grouping.table import Groups
from ptychostream.datasets.store import GroupStore
from ptychostream.errors import ConfigurationError, DataContractError
from ptychostream.models.pinn import PtychoPINN
from ptychostream.persistence import ModelBundle
from ptychostream.progress import ShouldStop, stop_once
from ptychostream.training.checkpoints import find_checkpoint
from ptychostream.training.checks import (
    check_data,
    check_supported,
    lacks_held_out_neighbour,
    warn_of_idle_options,
)
from ptychostream.training.label_scaling import objects_in_model_unit
from ptychostream.training.labels import TruePatches
from ptychostream.training.objective import needs_labels
from ptychostream.training.probes import refine_probes
from ptychostream.training.processes import (
    fit_to_launcher,
    is_first_process,
    starts_processes,
    train_in_processes,
)
from ptychostream.training.progress import OnEpoch

logger = logging.getLogger(__name__)

#: Order of groups: shuffled for training, that of the table for validation.
_ORDERS: dict[str, Order] = {"train": "shuffled", "validation": "storage"}


class _Part(NamedTuple):
    """Groups of a store, and the factors on its amplitudes."""

    store: GroupStore
    scales: Scales
    groups: Groups


def train(
    config: TrainingConfig,
    store: GroupStore,
    *,
    validation: GroupStore | None = None,
    execution: PyTorchExecutionConfig | None = None,
    on_epoch: OnEpoch | None = None,
    should_stop: ShouldStop | None = None,
    resume_from: str | Path | None = None,
) -> ModelBundle:
    """Train a network on a store, with PyTorch whatever `config.backend` says.

    Parameters
    ----------
    config : TrainingConfig
        What is trained, and how.
    store : GroupStore
        The data.
    validation : GroupStore, optional
        Data for the validation loss.
    execution : PyTorchExecutionConfig, optional
        Device, precision, learning rate, checkpoints.
    on_epoch : callable, optional
        Called with an `EpochReport` after each epoch, in the thread that trains.
    should_stop : callable, optional
        Asked after each batch, in the thread that trains. When it returns True, training ends
        there, and the model as it is then is returned.
    resume_from : str or Path, optional
        Folder of an unfinished run of the same configuration on the same data, or one of its
        checkpoints: training goes on there.

    Returns
    -------
    ModelBundle
        The trained model, with all that inference needs. Where `should_stop` ended training,
        `history["stopped_after"]` holds the number of epochs done, the last one in part.

    Raises
    ------
    ConfigurationError
        If an option is not available, or the loss became NaN.
    DataContractError
        If a store does not fit the model.
    KeyboardInterrupt
        If SIGINT or SIGTERM came, in a program's main thread; the checkpoint `last.ckpt` is then
        that of the last step.
    """
    execution = fit_to_launcher(execution or PyTorchExecutionConfig())
    check_supported(config, execution)
    check_data(config, store, validation)
    if is_first_process():
        warn_of_idle_options(config, execution)
    config = with_scaling_profile(config, store)
    checkpoint = None if resume_from is None else find_checkpoint(resume_from)
    should_stop = should_stop and stop_once(should_stop)
    if starts_processes(execution):
        number = len(training_groups(_without_held_out(config, store, validation), store))
        if number < execution.devices:
            raise ConfigurationError(
                f"{number} groups cannot be shared by devices={execution.devices}; use fewer"
            )
        return train_in_processes(
            config,
            store,
            validation,
            execution,
            on_epoch=on_epoch,
            should_stop=should_stop,
            resume_from=checkpoint,
        )
    asked, config = config, _without_held_out(config, store, validation)
    model = initial_model(config, store, seed=config.subsample_seed or 0)
    # Imported late: Lightning takes seconds to import.
    from ptychostream.training.callbacks import Description
    from ptychostream.training.fit import fit

    if validation is not None and not model.probe.matches_initial_guess(validation.probe):
        raise DataContractError(
            f"'{validation.path}' has another probe than '{store.path}'; validate on data that "
            "were measured with the same probe"
        )
    if config.probe_trainable and checkpoint is None:
        refine_probes(model, store, config, execution, should_stop)
        if should_stop is not None and should_stop():
            # An interrupted probe refinement cannot be resumed: the next run starts again.
            execution = replace(execution, enable_checkpointing=False)
    parts = _parts(config, store, validation)
    scale = float(parts["train"].scales.intensity_scale.mean())
    about = {"intensity_scale": scale, "probe_guess": store.probe}
    callbacks: list[Any] = [Description(asked, about)]
    if execution.recon_log_every_n_epochs:
        callbacks.append(_pictures(config, execution, parts["train"]))
    history = fit(
        config,
        execution,
        model,
        {
            name: partial(_loader, config, execution, part, _ORDERS[name])
            for name, part in parts.items()
        },
        labels=_labels(config, model, parts),
        on_epoch=on_epoch,
        should_stop=should_stop,
        resume_from=checkpoint,
        data_name=_name_of(store),
        callbacks=callbacks,
    )
    return ModelBundle(
        model=model.cpu().eval(),
        config=asked,
        intensity_scale=scale,
        probe_guess=store.probe,
        history=history,
    )


def initial_model(config: TrainingConfig, store: GroupStore, *, seed: int) -> PtychoPINN:
    """Make an untrained model for a store; the caller's random state is left alone.

    Parameters
    ----------
    config : TrainingConfig
        The network, and whether probe and scale are trained.
    store : GroupStore
        Gives the probes.
    seed : int
        Decides the initial weights.

    Returns
    -------
    PtychoPINN
        The model.
    """
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return PtychoPINN(
            config.model,
            store.probe,
            bad_pixels=store.bad_pixels,
            probe_trainable=config.probe_trainable,
            # In supervised training no loss depends on the scale of the prediction.
            intensity_scale_trainable=config.intensity_scale_trainable
            and config.model.model_type != "supervised",
        )


def training_groups(config: TrainingConfig, store: GroupStore) -> Groups:
    """Return the groups that a configuration trains on."""
    positions = int(np.bincount(store.experiment_id).min())
    spare = min(positions, config.n_subsample or positions) - config.model.group_size
    return select_groups(store, config, held_out=max(0, min(config.num_held_out, spare)))


def _without_held_out(
    config: TrainingConfig, store: GroupStore, validation: GroupStore | None
) -> TrainingConfig:
    """Set `overlap_weight` to 0 where an experiment is too small for a held-out neighbour."""
    if config.overlap_share and any(
        lacks_held_out_neighbour(config, d) for d in (store, validation) if d
    ):
        logger.info("too few positions for a neighbour that tests each group: overlap_weight is 0")
        return replace(config, n_images=None, overlap_weight=0.0)
    return config


def _parts(
    config: TrainingConfig, store: GroupStore, validation: GroupStore | None
) -> dict[str, _Part]:
    """Split the data into training and validation."""
    scales = scales_of(store, config.nphotons, config.scale_contract_version)
    groups = training_groups(config, store)
    if config.validation_fraction:
        training, held_out = split_by_position(groups, store, config.validation_fraction)
        return {
            "train": _Part(store, scales, training),
            "validation": _Part(store, scales, held_out),
        }
    parts = {"train": _Part(store, scales, groups)}
    if validation is not None:
        # Patterns are scaled by the total counts of their own store, which may be brighter.
        theirs = scales_of(validation, config.nphotons, config.scale_contract_version)
        parts["validation"] = _Part(validation, theirs, training_groups(config, validation))
    return parts


def _labels(
    config: TrainingConfig, model: PtychoPINN, parts: dict[str, _Part]
) -> dict[str, TruePatches]:
    """Return a function that cuts labels, if a loss needs them."""
    if not needs_labels(config):
        return {}
    return {
        name: TruePatches(objects_in_model_unit(part.store, model, part.scales), config.model.N)
        for name, part in parts.items()
    }


def _pictures(config: TrainingConfig, execution: PyTorchExecutionConfig, part: _Part) -> Any:
    """Make the callback that logs reconstructions of some groups."""
    from ptychostream.training.pictures import ReconstructionLog

    table = part.groups

    def serve_rows(rows: NDArray[np.int64]) -> GroupLoader:
        chosen = part._replace(groups=replace(table, nn_indices=table.nn_indices[rows]))
        return _loader(config, execution, chosen, "table", 0, 1, torch.device("cpu"))

    return ReconstructionLog(execution, part.store, serve_rows, table.nn_indices[:, 0])


def _name_of(store: GroupStore) -> str:
    """Return a digest of positions and total counts, which identifies the data."""
    digest = hashlib.sha256(store.positions.tobytes() + store.total_counts.tobytes())
    return digest.hexdigest()


def _loader(
    config: TrainingConfig,
    execution: PyTorchExecutionConfig,
    part: _Part,
    order: Order,
    rank: int,
    world_size: int,
    device: torch.device,
) -> GroupLoader:
    loader = make_loader(
        part.store,
        part.groups,
        batch_size=config.batch_size,
        order=order,
        seed=config.subsample_seed or 0,
        memory_budget=execution.memory_budget,
        scales=part.scales,
        num_threads=execution.num_workers,
        ahead=execution.prefetch_factor or AHEAD,
        rank=rank,
        world_size=world_size,
    )
    return loader.to(device, pins=execution.pin_memory)
