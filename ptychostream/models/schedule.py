"""Optimisers and learning rate schedules, by the names that the configuration uses."""

import math
from typing import Any

import torch
from torch.optim import lr_scheduler

from ptychostream.config import TrainingConfig

#: Part of a run that the default schedule of `unrolled` warms up.
_WARM_UP = 0.1


def make_optimizer(
    config: TrainingConfig, parameters: Any, learning_rate: float
) -> torch.optim.Optimizer:
    """Make the optimiser.

    Parameters
    ----------
    config : TrainingConfig
        `optimizer`, `weight_decay`, `momentum`, `adam_beta1` and `adam_beta2`.
    parameters : iterable
        Parameters or parameter groups.
    learning_rate : float
        First learning rate.

    Returns
    -------
    torch.optim.Optimizer
        The optimiser.
    """
    betas = (config.adam_beta1, config.adam_beta2)
    if config.optimizer == "sgd":
        return torch.optim.SGD(
            parameters, learning_rate, momentum=config.momentum, weight_decay=config.weight_decay
        )
    kind = torch.optim.Adam if config.optimizer == "adam" else torch.optim.AdamW
    return kind(parameters, learning_rate, betas=betas, weight_decay=config.weight_decay)


def make_scheduler(
    config: TrainingConfig,
    name: str,
    optimizer: torch.optim.Optimizer,
    *,
    steps_per_epoch: int,
    monitor: str,
) -> dict[str, Any] | None:
    """Make the learning rate schedule, as Lightning takes it.

    Parameters
    ----------
    config : TrainingConfig
        The schedule's parameters and the number of epochs.
    name : str
        The schedule.
    optimizer : torch.optim.Optimizer
        What it acts on.
    steps_per_epoch : int
        Optimiser steps in an epoch.
    monitor : str
        What a plateau is looked for in.

    Returns
    -------
    dict or None
        None where the learning rate stays as it is.
    """
    if name == "ReduceLROnPlateau":
        plateau = lr_scheduler.ReduceLROnPlateau(
            optimizer,
            factor=config.plateau_factor,
            patience=config.plateau_patience,
            min_lr=config.plateau_min_lr,
            threshold=config.plateau_threshold,
        )
        return {"scheduler": plateau, "monitor": monitor, "interval": "epoch"}
    if name == "Exponential":
        gamma = config.lr_min_ratio ** (1 / max(config.nepochs - 1, 1))
        exponential = lr_scheduler.ExponentialLR(optimizer, gamma)
        return {"scheduler": exponential, "interval": "epoch"}
    total = max(config.nepochs * steps_per_epoch, 1)
    if name == "WarmupCosine":
        warm_up, least = config.lr_warmup_epochs * steps_per_epoch, config.lr_min_ratio
    elif config.model.architecture == "unrolled":
        warm_up, least = max(1, int(_WARM_UP * total)), 0.01
    else:
        return None

    def factor(step: int) -> float:
        if step < warm_up:
            return (step + 1) / warm_up
        progress = min((step - warm_up) / max(total - warm_up, 1), 1)
        return least + (1 - least) * 0.5 * (1 + math.cos(math.pi * progress))

    return {"scheduler": lr_scheduler.LambdaLR(optimizer, factor), "interval": "step"}
