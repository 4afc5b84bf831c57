"""Train a network on a store."""

import logging
import warnings
from dataclasses import fields
from pathlib import Path
from typing import Any

import numpy as np
import torch

from ptychostream.config import PyTorchExecutionConfig, TrainingConfig
from ptychostream.datasets.loader import GroupLoader, make_loader
from ptychostream.datasets.scaling import Scales, scales_of
from ptychostream.datasets.store import GroupStore
from ptychostream.errors import ConfigurationError, DataContractError
from ptychostream.models.pinn import PtychoPINN
from ptychostream.persistence import ModelBundle

logger = logging.getLogger(__name__)

#: Fields whose other values this version can't honour yet: asking for them is refused.
_NOT_YET: dict[str, dict[str, Any]] = {
    "ModelConfig": {"model_type": "pinn"},
    "TrainingConfig": {
        "realspace_mae_weight": 0.0,
        "n_subsample": None,
        "enable_oversampling": False,
        "neighbor_pool_size": None,
        "positions_provided": True,
        "stage_1_epochs": 0,
        "stage_2_epochs": 0,
        "stage_3_epochs": 0,
    },
    "PyTorchExecutionConfig": {
        "recon_log_every_n_epochs": None,
        "recon_log_fixed_indices": None,
        "recon_log_stitch": False,
        "recon_log_max_stitch_samples": None,
        "middle_trim": 0,
        "pad_eval": False,
        "prefetch_factor": None,
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
    for data in (store, validation):
        if data is not None and data.N != config.model.N:
            raise DataContractError(
                f"'{data.path}' has patterns of {data.N} px but model.N={config.model.N}; "
                f"set N to {data.N}"
            )
    seed = config.subsample_seed or 0
    model = initial_model(config, store, seed=seed)
    scales = scales_of(store, config.nphotons)
    loader = _loader(config, execution, store, scales, shuffle=True)
    # Validation patterns are scaled as the training patterns are only if they are as bright.
    held_out = (
        None
        if validation is None
        else _loader(
            config, execution, validation, scales_of(validation, config.nphotons), shuffle=False
        )
    )
    if validation is not None and not model.probe.began_as(validation.probe):
        raise DataContractError(
            f"'{validation.path}' has another probe than '{store.path}'; validate on data that "
            "were measured with the same probe"
        )
    history = _fit(config, execution, model, loader, held_out)
    return ModelBundle(
        model=model.cpu().eval(),
        config=config,
        intensity_scale=float(scales.intensity_scale.mean()),
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
    *,
    shuffle: bool,
) -> GroupLoader:
    groups = store.groups(
        config.model.gridsize,
        config.neighbor_count,
        num_groups=config.n_groups,
        sequential=config.sequential_sampling,
        seed=config.subsample_seed or 0,
    )
    return make_loader(
        store,
        groups,
        batch_size=config.batch_size,
        order="shuffled" if shuffle else "storage",
        seed=config.subsample_seed or 0,
        memory_budget=execution.memory_budget,
        scales=scales,
        num_threads=execution.num_workers,
    )


def _fit(
    config: TrainingConfig,
    execution: PyTorchExecutionConfig,
    model: PtychoPINN,
    loader: GroupLoader,
    held_out: GroupLoader | None,
) -> dict[str, list[float]]:
    """Run Lightning's trainer, and return the losses of each epoch."""
    import lightning
    from lightning.pytorch.callbacks import Callback, EarlyStopping, ModelCheckpoint

    from ptychostream.models.lightning_module import PinnModule
    from ptychostream.models.training_callbacks import LossHistory

    monitor = execution.checkpoint_monitor_metric
    if held_out is None and monitor == "val_loss":
        monitor = "train_loss"
    module = PinnModule(model, config, execution, monitor=monitor)
    history = LossHistory(config.nepochs)
    early = EarlyStopping(
        monitor, patience=execution.early_stop_patience, mode=execution.checkpoint_mode
    )
    callbacks: list[Callback] = [history, early]
    if execution.enable_checkpointing:
        callbacks.append(
            ModelCheckpoint(
                Path(config.output_dir) / "checkpoints",
                filename="best-{epoch}",
                monitor=monitor,
                mode=execution.checkpoint_mode,
                save_top_k=execution.checkpoint_save_top_k,
                save_last=True,
            )
        )
    with warnings.catch_warnings():
        # Lightning advises on loaders of its own kind; ours decodes in threads.
        warnings.filterwarnings("ignore", message=".*does not have many workers.*")
        warnings.filterwarnings("ignore", message=".*Checkpoint directory .* exists.*")
        warnings.filterwarnings("ignore", message=".*LeafSpec.*")
        trainer = lightning.Trainer(
            accelerator=execution.accelerator,
            devices=execution.devices,
            strategy=execution.strategy,
            precision=execution.precision,
            max_epochs=config.nepochs,
            accumulate_grad_batches=execution.accum_steps,
            gradient_clip_val=execution.gradient_clip_val or config.gradient_clip_val,
            gradient_clip_algorithm=execution.gradient_clip_algorithm
            or config.gradient_clip_algorithm,
            deterministic=execution.deterministic,
            enable_progress_bar=execution.enable_progress_bar,
            enable_model_summary=False,
            enable_checkpointing=execution.enable_checkpointing,
            default_root_dir=config.output_dir,
            callbacks=callbacks,
            logger=_logger(config, execution),
            use_distributed_sampler=False,
            num_sanity_val_steps=0,
            log_every_n_steps=max(1, min(50, len(loader))),
        )
        logger.info(
            "training %s on %s: %d parameters, %d batches an epoch",
            config.model.architecture,
            trainer.strategy.root_device,
            sum(p.numel() for p in model.parameters() if p.requires_grad),
            len(loader),
        )
        trainer.fit(module, loader, held_out)
    losses = history.losses
    if not losses["train_loss"] or not np.isfinite(losses["train_loss"][-1]):
        raise ConfigurationError(
            "the training loss is not a finite number; lower the learning rate, or check the "
            "data with `ptychostream info`"
        )
    return losses


def _logger(config: TrainingConfig, execution: PyTorchExecutionConfig) -> Any:
    if execution.logger_backend is None:
        return False
    from lightning.pytorch import loggers

    if execution.logger_backend == "csv":
        return loggers.CSVLogger(config.output_dir, name="log", version="")
    try:
        if execution.logger_backend == "tensorboard":
            return loggers.TensorBoardLogger(config.output_dir, name="log", version="")
        return loggers.MLFlowLogger(experiment_name="ptychostream")
    except (ImportError, ModuleNotFoundError) as error:
        raise ConfigurationError(
            f"logger_backend={execution.logger_backend!r} needs an extra: "
            f"pip install 'ptychostream[{execution.logger_backend}]'"
        ) from error
