"""The three stages of a run: which loss, and which share of the learning rate, in which epoch."""

import math

from ptychostream.config import TrainingConfig

#: Exponent of the exponential rise: the weight grows e⁵-fold over a stage.
_STEEPNESS = 5.0


def physics_weight(config: TrainingConfig, epoch: int) -> float:
    """Return the weight of the physics loss against the data loss.

    It is 0, the data loss alone, in stage 1 and 1, the physics loss alone, in stage 3; in stage 2
    it rises between them.

    Examples
    --------
    >>> stages = {"stage_1_epochs": 1, "stage_2_epochs": 3, "physics_weight_schedule": "linear"}
    >>> config = TrainingConfig(nepochs=5, **stages)
    >>> [physics_weight(config, epoch) for epoch in range(5)]
    [0.0, 0.25, 0.5, 0.75, 1.0]
    """
    into = epoch - config.stage_1_epochs
    if into < 0:
        return 0.0
    if into >= config.stage_2_epochs:
        return 1.0
    part = (into + 1) / (config.stage_2_epochs + 1)
    if config.physics_weight_schedule == "linear":
        return part
    if config.physics_weight_schedule == "cosine":
        return 0.5 * (1 - math.cos(math.pi * part))
    return math.expm1(_STEEPNESS * part) / math.expm1(_STEEPNESS)


def learning_rate_factor(config: TrainingConfig, epoch: int) -> float:
    """Return the factor of the learning rate in the stage of an epoch."""
    if not config.stage_3_epochs or epoch < config.nepochs - config.stage_3_epochs:
        return 1.0
    return config.stage_3_lr_factor
