"""Train a network on a store."""

from dataclasses import fields
from functools import partial
from typing import Any

import numpy as np
import torch

from ptychostream.config import PyTorchExecutionConfig, TrainingConfig
from ptychostream.datasets.loader import GroupLoader, make_loader
from ptychostream.datasets.sampler import Order
from ptychostream.datasets.scaling import Scales, scales_of, with_scaling_profile
from ptychostream.datasets.selection import select_groups
from ptychostream.datasets.store import GroupStore
from ptychostream.errors import ConfigurationError, DataContractError
from ptychostream.models.generators import GENERATORS
from ptychostream.models.pinn import PtychoPINN
from ptychostream.persistence import ModelBundle
from ptychostream.refinement import refine_probes

#: Fields whose other values this version can't honour yet: asking for them is refused.
_NOT_YET: dict[str, dict[str, Any]] = {
    "ModelConfig": {"model_type": "pinn"},
    "TrainingConfig": {
        "realspace_mae_weight": 0.0,
        "positions_provided": True,
        "stage_1_epochs": 0,
        "stage_2_epochs": 0,
        "stage_3_epochs": 0,
        "physics_weight_schedule": "cosine",
        "stage_3_lr_factor": 0.1,
    },
    "PyTorchExecutionConfig": {
        "recon_log_every_n_epochs": None,
        "recon_log_num_patches": 4,
        "recon_log_fixed_indices": None,
        "recon_log_stitch": False,
        "recon_log_max_stitch_samples": None,
        "middle_trim": 0,
        "pad_eval": False,
        "prefetch_factor": None,
        "pin_memory": False,
    },
}


def train(
    config: TrainingConfig,
    store: GroupStore,
    *,
    validation: GroupStore | None = None,
    execution: PyTorchExecutionConfig | None = None,
) -> ModelBundle:
    """Train a network on a store, with PyTorch whatever `config.backend` says.

    Parameters
    ----------
    config : TrainingConfig
        What is trained, and how.
    store : GroupStore
        The data.
    validation : GroupStore, optional
        Data that the loss is watched on.
    execution : PyTorchExecutionConfig, optional
        Device, precision, learning rate, checkpoints.

    Returns
    -------
    ModelBundle
        The trained model, with all that inference needs.

    Raises
    ------
    ConfigurationError
        If an option is not available, or the loss became NaN.
    DataContractError
        If a store does not fit the model.
    """
    execution = execution or PyTorchExecutionConfig()
    check_supported(config, execution)
    check_data(config, store, validation)
    seed = config.subsample_seed or 0
    model = initial_model(config, store, seed=seed)
    config = with_scaling_profile(config, store)
    scales = scales_of(store, config.nphotons, config.scale_contract_version)
    # Imported late: Lightning takes seconds to import.
    from ptychostream.models.fit import fit

    if validation is not None and not model.probe.began_as(validation.probe):
        raise DataContractError(
            f"'{validation.path}' has another probe than '{store.path}'; validate on data that "
            "were measured with the same probe"
        )
    if config.probe_trainable:
        refine_probes(model, store, config, execution)
    loaders = {"train": partial(_loader, config, execution, store, scales, "shuffled")}
    if validation is not None:
        # Patterns are scaled by the energy of their own store: it may be brighter.
        theirs = scales_of(validation, config.nphotons, config.scale_contract_version)
        loaders["validation"] = partial(_loader, config, execution, validation, theirs, "storage")
    history = fit(config, execution, model, loaders)
    return ModelBundle(
        model=model.cpu().eval(),
        config=config,
        intensity_scale=float(scales.intensity_scale.mean()),
        probe_guess=store.probe,
        history=history,
    )


def check_data(
    config: TrainingConfig, store: GroupStore, validation: GroupStore | None = None
) -> None:
    """Refuse stores that a network can't be trained on.

    Parameters
    ----------
    config : TrainingConfig
        What is to be trained.
    store : GroupStore
        The data.
    validation : GroupStore, optional
        Data that the loss is to be watched on.

    Raises
    ------
    DataContractError
        If patterns have another size than the network, or too few neighbours fill a group.
    """
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
            intensity_scale_trainable=config.intensity_scale_trainable,
        )


def check_supported(config: TrainingConfig, execution: PyTorchExecutionConfig) -> None:
    """Refuse options that this version can't honour: none is accepted and ignored.

    Parameters
    ----------
    config : TrainingConfig
        What is trained.
    execution : PyTorchExecutionConfig
        Where and how fast.

    Raises
    ------
    ConfigurationError
        If such an option is set; the message names it and the value that is supported.
    """
    for part in (config.model, config, execution):
        for name, value in _NOT_YET[type(part).__name__].items():
            asked = getattr(part, name)
            if asked != value:
                raise ConfigurationError(
                    f"{name}={asked!r} is not available in this version; leave it at {value!r}"
                )
    # Not refused at construction: existing callers describe such data, and never group them.
    if config.neighbor_count < config.model.group_size - 1:
        raise ConfigurationError(
            f"neighbor_count={config.neighbor_count} is too few for gridsize="
            f"{config.model.gridsize}: a group of {config.model.group_size} needs at least "
            f"{config.model.group_size - 1} neighbours of its seed"
        )
    if config.neighbor_pool_size is not None and not config.enable_oversampling:
        raise ConfigurationError(
            f"neighbor_pool_size={config.neighbor_pool_size} does nothing without "
            "enable_oversampling=True; set it, or leave the pool size out"
        )
    if config.model.architecture not in GENERATORS:
        raise ConfigurationError(
            f"no architecture {config.model.architecture!r}; there are "
            f"{', '.join(sorted(GENERATORS))}"
        )
    fourier = [f.name for f in fields(config.model) if f.name.startswith(("fno_", "learned_"))]
    default = type(config.model)()
    for name in (*fourier, "max_hidden_channels", "resnet_width", "generator_output_mode"):
        if getattr(config.model, name) != getattr(default, name):
            raise ConfigurationError(
                f"{name} belongs to a Fourier network, not to architecture "
                f"{config.model.architecture!r}; leave it at {getattr(default, name)!r}"
            )
    if "agc" in (config.gradient_clip_algorithm, execution.gradient_clip_algorithm):
        raise ConfigurationError(
            "gradient_clip_algorithm='agc' is not available in this version; use 'norm' or 'value'"
        )


def _loader(
    config: TrainingConfig,
    execution: PyTorchExecutionConfig,
    store: GroupStore,
    scales: Scales,
    order: Order,
    rank: int,
    world_size: int,
) -> GroupLoader:
    groups = select_groups(store, config, witnesses=int(config.overlap_share > 0))
    return make_loader(
        store,
        groups,
        batch_size=config.batch_size,
        order=order,
        seed=config.subsample_seed or 0,
        memory_budget=execution.memory_budget,
        scales=scales,
        num_threads=execution.num_workers,
        rank=rank,
        world_size=world_size,
    )
