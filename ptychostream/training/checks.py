"""Checks of configuration and data before anything is read or written."""

import logging
from dataclasses import fields
from typing import Any

import numpy as np

from ptychostream.config import PyTorchExecutionConfig, TrainingConfig
from ptychostream.config.training import check_supervised
from ptychostream.datasets.store import GroupStore
from ptychostream.errors import ConfigurationError, DataContractError
from ptychostream.models.generators import check_fields
from ptychostream.training.objective import needs_labels

logger = logging.getLogger(__name__)


def check_supported(config: TrainingConfig, execution: PyTorchExecutionConfig) -> None:
    """Refuse options that have no effect in this version."""
    if not config.positions_provided:
        raise ConfigurationError(
            "positions_provided=False: patterns without scan positions can't be grouped or "
            "stitched; leave it at True and give the positions"
        )
    check_supervised(config)
    # Not refused at construction: programs for PtychoPINN describe such data without grouping them.
    if config.neighbor_count < config.model.group_size - 1:
        raise ConfigurationError(
            f"neighbor_count={config.neighbor_count} is too few for gridsize="
            f"{config.model.gridsize}, raise it: a group of {config.model.group_size} needs at "
            f"least {config.model.group_size - 1} neighbours of its seed"
        )
    check_fields(config.model)
    if config.neighbor_pool_size is not None and not config.enable_oversampling:
        raise ConfigurationError(
            f"neighbor_pool_size={config.neighbor_pool_size} does nothing without "
            "enable_oversampling=True; set it, or leave the pool size out"
        )
    if execution.strategy == "dp":
        raise ConfigurationError(
            "strategy='dp' divides the batches of a reconstruction; train with 'ddp'"
        )
    if execution.persistent_workers:
        raise ConfigurationError(
            "persistent_workers=True: windows are decoded by threads, there are no worker "
            "processes to keep; leave it at False"
        )
    limit = execution.gradient_clip_val or config.gradient_clip_val
    algorithm = execution.gradient_clip_algorithm or config.gradient_clip_algorithm
    if limit is None and algorithm != "norm":
        raise ConfigurationError(
            f"gradient_clip_algorithm={algorithm!r} acts only with gradient_clip_val; set that too"
        )
    pictures = [f.name for f in fields(execution) if f.name.startswith("recon_log_")]
    every = "recon_log_every_n_epochs"
    for name in pictures:
        default = getattr(PyTorchExecutionConfig(), name)
        if getattr(execution, name) != default and getattr(execution, every) is None:
            raise ConfigurationError(
                f"{name}={getattr(execution, name)!r} acts only with {every}; set that too"
            )
    if getattr(execution, every) and execution.logger_backend is None:
        raise ConfigurationError(
            f"{every}={getattr(execution, every)} needs a logger to write to; set logger_backend"
        )


def warn_of_idle_options(config: TrainingConfig, execution: PyTorchExecutionConfig) -> None:
    """Return a sentence for each option without an effect; programs for PtychoPINN set such."""
    scheduler = execution.scheduler or config.scheduler
    is_staged = bool(config.stage_2_epochs or config.stage_3_epochs)
    plateau = "plateau_factor", "plateau_patience", "plateau_min_lr", "plateau_threshold"
    table: tuple[tuple[Any, tuple[str, ...], bool, str], ...] = (
        (config, ("momentum",), config.optimizer == "sgd", "optimizer='sgd'"),
        (config, ("adam_beta1", "adam_beta2"), config.optimizer != "sgd", "adam or adamw"),
        (config, ("lr_warmup_epochs",), scheduler == "WarmupCosine", "scheduler='WarmupCosine'"),
        (
            config,
            ("lr_min_ratio",),
            scheduler in ("WarmupCosine", "Exponential"),
            "scheduler='WarmupCosine' or 'Exponential'",
        ),
        (config, plateau, scheduler == "ReduceLROnPlateau", "scheduler='ReduceLROnPlateau'"),
        (config, ("physics_weight_schedule",), is_staged, "stage_2_epochs"),
        (config, ("stage_3_lr_factor",), bool(config.stage_3_epochs), "stage_3_epochs"),
        (
            config.model,
            ("probe_mask_sigma", "probe_mask_diameter"),
            config.model.probe_mask,
            "probe_mask",
        ),
    )
    for where, names, is_used, needed in table:
        for name in names:
            value = getattr(where, name)
            if not is_used and value != getattr(type(where)(), name):
                logger.warning("%s=%r does nothing without %s", name, value, needed)


def check_data(
    config: TrainingConfig, store: GroupStore, validation: GroupStore | None = None
) -> None:
    """Refuse stores on which the network cannot be trained."""
    if validation is not None and config.validation_fraction:
        raise ConfigurationError(
            f"validation_fraction={config.validation_fraction} holds a part of the training store "
            f"out, but '{validation.path}' is given for validation; choose one"
        )
    for data in (store, validation):
        if data is None:
            continue
        if data.N != config.model.N:
            raise DataContractError(
                f"'{data.path}' has patterns of {data.N} px but model.N={config.model.N}; "
                f"set N to {data.N}"
            )
        smallest = int(np.bincount(data.experiment_id).min())
        if smallest < config.model.group_size:
            raise DataContractError(
                f"'{data.path}' has an experiment of {smallest} positions, which cannot fill "
                f"groups of {config.model.group_size}; use a smaller gridsize"
            )
        if config.overlap_weight and lacks_held_out_neighbour(config, data):
            raise DataContractError(
                f"overlap_weight={config.overlap_weight} needs a neighbour beyond each group of "
                f"{config.model.group_size}, but '{data.path}' has an experiment of {smallest} "
                "positions; set it to 0"
            )
        if needs_labels(config) and config.targets == "object_guess":
            for experiment in range(data.num_experiments):
                if data.object_guess_of(experiment) is None:
                    raise DataContractError(
                        f"'{data.path}' has no object_guess of experiment {experiment}, which "
                        f"model_type={config.model.model_type!r} with realspace_mae_weight="
                        f"{config.realspace_mae_weight:g} compares with; build the store from a "
                        "scan with objectGuess, set targets to 'solver', or train without"
                    )


def lacks_held_out_neighbour(config: TrainingConfig, store: GroupStore) -> bool:
    """Return whether an experiment has too few positions for groups with held-out neighbours."""
    smallest = int(np.bincount(store.experiment_id).min())
    if config.n_subsample is not None:
        smallest = min(smallest, config.n_subsample)
    return smallest < config.model.group_size + config.num_held_out
