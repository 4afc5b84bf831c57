"""Run Lightning's trainer on a model, as the configurations ask."""

import logging
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import lightning
import numpy as np
from lightning.fabric.utilities.warnings import PossibleUserWarning
from lightning.pytorch.callbacks import Callback, EarlyStopping, ModelCheckpoint

from ptychostream.config import PyTorchExecutionConfig, TrainingConfig
from ptychostream.errors import ConfigurationError
from ptychostream.models.lightning_module import LoaderFactory, PinnModule
from ptychostream.models.pinn import PtychoPINN
from ptychostream.models.training_callbacks import Description, LossHistory

logger = logging.getLogger(__name__)


def fit(
    config: TrainingConfig,
    execution: PyTorchExecutionConfig,
    model: PtychoPINN,
    loaders: Mapping[str, LoaderFactory],
    *,
    about: Mapping[str, Any],
) -> dict[str, list[float]]:
    """Train a model with Lightning.

    Parameters
    ----------
    config : TrainingConfig
        Losses, optimiser, epochs, output folder.
    execution : PyTorchExecutionConfig
        Device, precision, checkpoints, logger.
    model : PtychoPINN
        Trained in place.
    loaders : mapping
        `train` and perhaps `validation`: functions of rank and world size that make the batches
        of one process.
    about : mapping
        `intensity_scale` and `probe_guess`: what a checkpoint needs besides the weights.

    Returns
    -------
    dict
        `train_loss` and, with validation, `val_loss`: one number per epoch.

    Raises
    ------
    ConfigurationError
        If the loss became NaN, or a logger is not installed.
    """
    monitor = execution.checkpoint_monitor_metric
    if "validation" not in loaders and monitor == "val_loss":
        monitor = "train_loss"
    module = PinnModule(model, config, execution, monitor=monitor, loaders=loaders)
    history = LossHistory(config.nepochs)
    early = EarlyStopping(
        monitor, patience=execution.early_stop_patience, mode=execution.checkpoint_mode
    )
    callbacks: list[Callback] = [history, early, Description(config, about, history)]
    if execution.enable_checkpointing:
        callbacks.append(
            ModelCheckpoint(
                Path(config.output_dir) / "checkpoints",
                filename="best-{epoch}",
                monitor=monitor,
                mode=execution.checkpoint_mode,
                save_top_k=execution.checkpoint_save_top_k,
                save_last=True,
                # A run takes the place of an earlier one in the same folder.
                enable_version_counter=False,
            )
        )
    with _quiet_lightning():
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
            limit_val_batches=1.0 if "validation" in loaders else 0,
            log_every_n_steps=1,
        )
        logger.info(
            "training %s on %s: %d parameters",
            config.model.architecture,
            trainer.strategy.root_device,
            sum(p.numel() for p in model.parameters() if p.requires_grad),
        )
        trainer.fit(module)
    losses = history.losses
    if not losses["train_loss"] or not np.isfinite(losses["train_loss"][-1]):
        raise ConfigurationError(
            "the training loss is not a finite number; lower the learning rate, or check the "
            "data with `ptychostream info`"
        )
    return losses


@contextmanager
def _quiet_lightning() -> Iterator[None]:
    """Keep Lightning's advice on itself away from the user, for as long as it runs."""
    named = [logging.getLogger(name) for name in ("lightning.pytorch", "lightning.fabric")]
    levels = [log.level for log in named]
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", category=PossibleUserWarning)
        warnings.filterwarnings("ignore", message=".*(Checkpoint|log).* directory .* exists.*")
        warnings.filterwarnings("ignore", message=".*LeafSpec.*")
        for log in named:
            log.setLevel(logging.WARNING)
        try:
            yield
        finally:
            for log, level in zip(named, levels, strict=True):
                log.setLevel(level)


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
