"""Run Lightning's trainer on a model, as the configurations ask."""

import dataclasses
import logging
import os
import warnings
from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager, ExitStack, contextmanager, nullcontext
from functools import partial
from pathlib import Path
from typing import Any

import lightning
import numpy as np
import torch
from lightning.fabric.utilities.exceptions import MisconfigurationException
from lightning.fabric.utilities.warnings import PossibleUserWarning
from lightning.pytorch.callbacks import Callback, EarlyStopping, ModelCheckpoint
from lightning.pytorch.plugins import MixedPrecision
from numpy.typing import NDArray
from typing_extensions import override

from ptychostream.datasets.batches.loader import GroupLoader
from ptychostream.errors import ConfigurationError, DataContractError, PtychoStreamError
from ptychostream.models.pinn import PtychoPINN
from ptychostream.models.precision import mixed_convolutions
from ptychostream.progress import ShouldStop
from ptychostream.training.callbacks import Description, EpochReports
from ptychostream.training.checkpoints import WholeCheckpoints, describe_run
from ptychostream.training.collapse_monitor import NOT_A_NUMBER, CollapseWatch
from ptychostream.training.interruption import StopRequests, TrainingEnded, signals_given_back
from ptychostream.training.labels import TruePatches
from ptychostream.training.module import PinnModule
from ptychostream.training.progress import OnEpoch
from ptychostream.training.run import TrainingRun
from ptychostream.training.tracking import make_tracker

logger = logging.getLogger(__name__)


def fit(
    run: TrainingRun,
    model: PtychoPINN,
    *,
    labels: Mapping[str, TruePatches] | None = None,
    on_epoch: OnEpoch | None = None,
    should_stop: ShouldStop | None = None,
) -> dict[str, list[float]]:
    """Train a model with Lightning.

    `labels`: the true patches of each part of the run, where the losses need them.
    Returns `train_loss` and, with validation, `val_loss`: one number per epoch. Where
        `should_stop` ended training, `stopped_after` too: the epochs done, the last one in part.
    """
    execution = run.execution
    # With the channels of a pixel side by side, convolutions, pooling and resizing are faster.
    for layer in model.generator.modules():
        if isinstance(layer, torch.nn.Conv2d):
            layer.to(memory_format=torch.channels_last)  # type: ignore[call-overload, unused-ignore]
    module = PinnModule(
        model,
        run.config,
        execution,
        monitor=run.monitor,
        loaders={part: partial(run.loader, part) for part in run.parts},
        labels=labels,
        run=describe_run(run.config, execution, run.data_name),
    )
    reports = EpochReports(run.config.nepochs, run.config.model.group_size, on_epoch)
    requests = StopRequests(
        should_stop, _checkpoints(run) / "last.ckpt" if execution.enable_checkpointing else None
    )
    with ExitStack() as stack:
        stack.enter_context(_quiet_lightning())
        stack.enter_context(_settings_given_back())
        trainer = _make_trainer(run, make_callbacks(run, reports, requests))
        device = trainer.strategy.root_device
        if execution.pin_memory and device.type != "cuda":
            raise ConfigurationError(
                f"pin_memory=True speeds up transfers to a GPU, but this run is on '{device}'; "
                "leave it at False"
            )
        if trainer.is_global_zero:
            logger.info(
                "training %s on %s: %d parameters",
                run.config.model.architecture,
                device if trainer.world_size == 1 else f"{trainer.world_size} devices",
                sum(p.numel() for p in model.parameters() if p.requires_grad),
            )
        stack.enter_context(mixed_convolutions(model, execution.precision, device.type))
        stack.enter_context(signals_given_back())
        try:
            trainer.fit(module, ckpt_path=run.checkpoint, weights_only=True)
            is_ended = False
        except TrainingEnded:
            is_ended = True
        except Exception as error:  # Lightning raises many kinds for a checkpoint of another run
            if run.checkpoint is None or requests.has_begun or isinstance(error, PtychoStreamError):
                raise
            # Plain data with intact checksums, but not what Lightning restores a run from.
            raise DataContractError(
                f"'{run.checkpoint}' can't be resumed from ({type(error).__name__}: {error}); "
                "resume from another checkpoint, or train anew"
            ) from error
        if trainer.global_step == module.steps_before and trainer.is_global_zero and not is_ended:
            logger.warning(
                "nothing was trained: the run had come to its end; name more than nepochs=%d to "
                "go on with it",
                run.config.nepochs,
            )
    return interpret_end(run, reports, requests, is_ended=is_ended)


def make_callbacks(
    run: TrainingRun, reports: EpochReports, requests: StopRequests
) -> list[Callback]:
    """Make the callbacks of a run: reports, checks, pictures, checkpoints."""
    execution = run.execution
    callbacks: list[Callback] = [
        reports,
        CollapseWatch(supervised=run.config.model.model_type == "supervised"),
        Description(
            run.requested,
            {"intensity_scale": run.intensity_scale, "probe_guess": run.store.probe},
        ),
    ]
    if execution.recon_log_every_n_epochs:
        callbacks.append(_pictures(run))
    callbacks += [
        EarlyStopping(
            run.monitor, patience=execution.early_stop_patience, mode=execution.checkpoint_mode
        ),
        requests,
    ]
    if execution.enable_checkpointing:
        callbacks.append(
            ModelCheckpoint(
                _checkpoints(run),
                filename="best-{epoch}",
                monitor=run.monitor,
                mode=execution.checkpoint_mode,
                save_top_k=execution.checkpoint_save_top_k,
                save_last=True,
                save_on_train_epoch_end=True,
                # A run takes the place of an earlier one in the same folder.
                enable_version_counter=False,
            )
        )
    return callbacks


def interpret_end(
    run: TrainingRun, reports: EpochReports, requests: StopRequests, *, is_ended: bool
) -> dict[str, list[float]]:
    """Return the losses of a run that came to its end or was stopped (`is_ended`)."""
    losses = reports.losses
    if is_ended and requests.stopped:
        done = float(requests.epochs_done)
        logger.info("training stopped after %.2f of %d epochs", done, run.config.nepochs)
        return losses | {"stopped_after": [done]}
    if is_ended or requests.signalled:
        raise KeyboardInterrupt
    if not losses["train_loss"] or not np.isfinite(losses["train_loss"][-1]):
        raise ConfigurationError(NOT_A_NUMBER)
    return losses


def _checkpoints(run: TrainingRun) -> Path:
    return Path(run.config.output_dir) / "checkpoints"


def _pictures(run: TrainingRun) -> Callback:
    """Make the callback that logs reconstructions of some groups."""
    from ptychostream.training.pictures import ReconstructionLog

    part = run.parts["train"]
    table = part.groups

    def serve_rows(rows: NDArray[np.int64]) -> GroupLoader:
        chosen = dataclasses.replace(
            part, groups=dataclasses.replace(table, nn_indices=table.nn_indices[rows])
        )
        return run.serve(chosen, "table", 0, 1, torch.device("cpu"))

    return ReconstructionLog(run.execution, part.store, serve_rows, table.nn_indices[:, 0])


class _ConvolutionsOnly(MixedPrecision):
    """Lightning's mixed precision, with its loss scaling but without autocast around the step."""

    def __init__(self, precision: Any, device: str) -> None:
        super().__init__(precision, device)

    @override
    def forward_context(self) -> AbstractContextManager[Any]:  # type: ignore[override]
        return nullcontext()


def _make_trainer(run: TrainingRun, callbacks: list[Callback]) -> lightning.Trainer:
    config, execution = run.config, run.execution
    tracker = make_tracker(
        execution.logger_backend, Path(config.output_dir), resumed=run.checkpoint is not None
    )
    options: dict[str, Any] = {"plugins": [WholeCheckpoints()]}
    try:
        if execution.precision != "32-true":
            kind = lightning.Trainer(
                accelerator=execution.accelerator, devices=1, logger=False, barebones=True
            ).strategy.root_device.type
            if kind == "cpu" and execution.precision == "16-mixed":
                raise ConfigurationError(
                    "precision='16-mixed' needs a GPU, and this run is on the CPU; use "
                    "'bf16-mixed' or '32-true'"
                )
            options["plugins"].append(_ConvolutionsOnly(execution.precision, kind))
        trainer = lightning.Trainer(
            accelerator=execution.accelerator,
            devices=execution.devices,
            num_nodes=execution.num_nodes,
            strategy=execution.strategy,
            max_epochs=config.nepochs,
            accumulate_grad_batches=execution.accum_steps,
            deterministic=execution.deterministic,
            enable_progress_bar=execution.enable_progress_bar,
            enable_model_summary=False,
            enable_checkpointing=execution.enable_checkpointing,
            default_root_dir=config.output_dir,
            callbacks=callbacks,
            logger=tracker,
            use_distributed_sampler=False,
            num_sanity_val_steps=0,
            limit_val_batches=1.0 if "validation" in run.parts else 0,
            log_every_n_steps=1,
            **options,
        )
    except (MisconfigurationException, ValueError, RuntimeError) as error:
        if isinstance(error, ConfigurationError):
            raise
        raise ConfigurationError(
            f"accelerator={execution.accelerator!r}, devices={execution.devices}, "
            f"num_nodes={execution.num_nodes} and strategy={execution.strategy!r} don't work "
            f"here: {str(error).strip()}"
        ) from error
    if tracker:
        settings = dataclasses.asdict(config) | {"execution": dataclasses.asdict(execution)}
        assert not isinstance(tracker, bool)
        tracker.log_hyperparams(settings)
    return trainer


@contextmanager
def _quiet_lightning() -> Iterator[None]:
    """Hide Lightning's messages about itself while it runs."""
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


@contextmanager
def _settings_given_back() -> Iterator[None]:
    """Restore what `deterministic` changes for the whole program."""
    deterministic = torch.are_deterministic_algorithms_enabled()
    warn_only = torch.is_deterministic_algorithms_warn_only_enabled()
    benchmark = torch.backends.cudnn.benchmark
    workspace = os.environ.get("CUBLAS_WORKSPACE_CONFIG")
    try:
        yield
    finally:
        torch.use_deterministic_algorithms(deterministic, warn_only=warn_only)
        torch.backends.cudnn.benchmark = benchmark
        if workspace is None:
            os.environ.pop("CUBLAS_WORKSPACE_CONFIG", None)
        else:
            os.environ["CUBLAS_WORKSPACE_CONFIG"] = workspace
