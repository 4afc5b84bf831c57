"""Train a network on a store."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ptychostream.config import PyTorchExecutionConfig, TrainingConfig
from ptychostream.config.execution import check_execution_type
from ptychostream.datasets.store import GroupStore
from ptychostream.errors import ConfigurationError, DataContractError
from ptychostream.launcher import fit_to_launcher, is_first_process
from ptychostream.models.pinn import PtychoPINN
from ptychostream.persistence import ModelBundle
from ptychostream.progress import ShouldStop, stop_once
from ptychostream.training.checks import (
    check_data,
    check_supported,
    warn_of_idle_options,
)
from ptychostream.training.label_scaling import objects_in_model_unit
from ptychostream.training.labels import TruePatches
from ptychostream.training.objective import needs_labels
from ptychostream.training.processes import (
    starts_processes,
    train_in_processes,
)
from ptychostream.training.progress import OnEpoch
from ptychostream.training.run import TrainingRun, resolve_run
from ptychostream.training.solver_runs import refine_probes, solved_objects


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
        Data that the loss is watched on.
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
    check_execution_type(execution)
    execution = fit_to_launcher(execution or PyTorchExecutionConfig())
    check_supported(config, execution)
    check_data(config, store, validation)
    if is_first_process():
        warn_of_idle_options(config, execution)
    run = resolve_run(config, store, validation, execution, resume_from)
    should_stop = should_stop and stop_once(should_stop)
    if starts_processes(execution):
        number = len(run.parts["train"].groups)
        if number < execution.devices:
            raise ConfigurationError(
                f"{number} groups cannot be shared by devices={execution.devices}; use fewer"
            )
        return train_in_processes(
            run.requested,
            store,
            validation,
            execution,
            on_epoch=on_epoch,
            should_stop=should_stop,
            resume_from=run.checkpoint,
        )
    model = initial_model(run.config, store, seed=run.config.subsample_seed or 0)
    if validation is not None and not model.probe.matches_initial_guess(validation.probe):
        raise DataContractError(
            f"'{validation.path}' has another probe than '{store.path}'; validate on data that "
            "were measured with the same probe"
        )
    if model.intensity_input is not None and run.checkpoint is None:
        model.intensity_input.factors.copy_(_intensity_factors(run))
    if run.config.probe_trainable and run.checkpoint is None:
        refine_probes(model, store, run.config, execution, should_stop)
        if should_stop is not None and should_stop():
            # An interrupted probe refinement cannot be resumed: no checkpoint of it is kept.
            run = replace(run, execution=replace(execution, enable_checkpointing=False))
    # Imported late: Lightning takes seconds to import.
    from ptychostream.training.fit import fit

    history = fit(
        run,
        model,
        labels=_labels(run, model, should_stop),
        on_epoch=on_epoch,
        should_stop=should_stop,
    )
    return ModelBundle(
        model=model.cpu().eval(),
        config=run.requested,
        intensity_scale=run.intensity_scale,
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
            # Nothing compares the prediction's scale with anything in supervised training.
            intensity_scale_trainable=config.intensity_scale_trainable
            and config.model.model_type != "supervised",
        )


def _labels(
    run: TrainingRun, model: PtychoPINN, should_stop: ShouldStop | None
) -> dict[str, TruePatches]:
    """Cut the true patches that losses compare with, where they do."""
    if not needs_labels(run.config):
        return {}
    labels: dict[str, TruePatches] = {}
    solved: dict[str, list[NDArray[np.complex64]] | None] = {}
    for name, part in run.parts.items():
        path = str(part.store.path)
        if path not in solved:
            solved[path] = None
            if run.config.targets == "solver":
                seed = run.config.subsample_seed or 0
                solved[path] = solved_objects(
                    part.store, model, run.execution, seed=seed, should_stop=should_stop
                )
        scaled = objects_in_model_unit(part.store, model, part.scales, solved[path])
        labels[name] = TruePatches(scaled, run.config.model.N)
    return labels


def _intensity_factors(run: TrainingRun) -> Tensor:
    """Measure (N/2) / √(mean Σ x⁴) of each experiment's amplitudes x, in one pass over the groups.

    Returns (E,) float32, for `models.intensity_input`.
    """
    part, size = run.parts["train"], run.config.model.group_size
    sums = torch.zeros(part.store.num_experiments, dtype=torch.float64)
    patterns = torch.zeros_like(sums)
    for batch in run.serve(part, "storage", 0, 1, torch.device("cpu")):
        amplitude = (batch["diffraction"][:, :size] * batch["rms_scale"]).double()
        sums.index_add_(0, batch["experiment_id"], amplitude.pow(4).sum(dim=(1, 2, 3)))
        patterns += size * torch.bincount(batch["experiment_id"], minlength=len(sums))
    return ((run.config.model.N / 2) / (sums / patterns).sqrt()).float()
