"""Optimisers, learning rate schedules and the limit of gradients."""

import math
from collections.abc import Callable, Iterable
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim import lr_scheduler

from ptychostream.config import TrainingConfig
from ptychostream.training.stages import learning_rate_factor

#: Part of a run that the default schedule of `unrolled` warms up.
_WARM_UP = 0.1

#: Last over first learning rate of an exponential that should end at zero.
_EXPONENTIAL_FLOOR = 1e-3


def make_optimizer(
    config: TrainingConfig, parameters: Any, learning_rate: float
) -> torch.optim.Optimizer:
    """Make the optimiser."""
    betas = (config.adam_beta1, config.adam_beta2)
    if config.optimizer == "sgd":
        return torch.optim.SGD(
            parameters, learning_rate, momentum=config.momentum, weight_decay=config.weight_decay
        )
    kind = torch.optim.Adam if config.optimizer == "adam" else torch.optim.AdamW
    return kind(parameters, learning_rate, betas=betas, weight_decay=config.weight_decay)


def learning_rate_curve(
    config: TrainingConfig, name: str, steps_per_epoch: int
) -> Callable[[int], float]:
    """Return the function from a step's number to its learning rate over the configured one.

    `ReduceLROnPlateau` is no such function: see `make_plateau`.
    """
    shape = _shape(config, name, steps_per_epoch)

    def factor(step: int) -> float:
        return shape(step) * learning_rate_factor(config, step // steps_per_epoch)

    return factor


def _shape(config: TrainingConfig, name: str, steps_per_epoch: int) -> Callable[[int], float]:
    total = max(config.nepochs * steps_per_epoch, 1)
    if name == "Exponential":
        last = config.lr_min_ratio or _EXPONENTIAL_FLOOR
        gamma = last ** (1 / max(config.nepochs - 1, 1))
        return lambda step: gamma ** (step // steps_per_epoch)
    if name == "WarmupCosine":
        warm_up, least = config.lr_warmup_epochs * steps_per_epoch, config.lr_min_ratio
    elif name == "Default" and config.model.architecture == "unrolled":
        warm_up, least = max(1, int(_WARM_UP * total)), 0.01
    else:
        return lambda step: 1.0

    def warmed_up_cosine(step: int) -> float:
        if step < warm_up:
            return (step + 1) / warm_up
        progress = min((step - warm_up) / max(total - warm_up, 1), 1)
        return least + (1 - least) * 0.5 * (1 + math.cos(math.pi * progress))

    return warmed_up_cosine


def make_plateau(
    config: TrainingConfig, optimizer: torch.optim.Optimizer
) -> lr_scheduler.ReduceLROnPlateau:
    """Make the schedule that lowers the learning rate when a loss makes no progress."""
    return lr_scheduler.ReduceLROnPlateau(
        optimizer,
        factor=config.plateau_factor,
        patience=config.plateau_patience,
        min_lr=config.plateau_min_lr,
        threshold=config.plateau_threshold,
    )


#: Least norm of weights that is assumed; otherwise layers that start at zero would never change.
_LEAST = 1e-3


@torch.no_grad()
def clip_by_weights(parameters: Iterable[nn.Parameter], ratio: float) -> None:
    """Scale down the gradients that are too large for their weights, in place.

    `ratio`: largest norm of a unit's gradient, relative to the norm of its weights; a unit is one
        output channel.

    References
    ----------
    Brock, De, Smith & Simonyan, arXiv:2102.06171 (2021), equation 3.
    """
    for parameter in parameters:
        if parameter.grad is None:
            continue
        limit = _unit_norms(parameter).clamp_min(_LEAST) * ratio
        norm = _unit_norms(parameter.grad)
        parameter.grad.mul_(torch.clamp(limit / norm.clamp_min(1e-12), max=1.0))


def _unit_norms(values: Tensor) -> Tensor:
    if values.ndim < 2:
        return values.abs()
    return values.square().sum(dim=tuple(range(1, values.ndim)), keepdim=True).sqrt()
