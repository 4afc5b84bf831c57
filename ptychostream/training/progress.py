"""What a training run reports to a host program after each epoch."""

from collections.abc import Callable
from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True)
class EpochReport:
    """One epoch of a training run, as `on_epoch` receives it.

    `epoch`: number of the epoch, from 1.
    `train_loss`: mean over the training groups.
    `val_loss`: mean over the validation groups; None without validation.
    `learning_rate`: of the network, at the end of the epoch.
    `patterns_per_second`: patterns trained on, over all processes; a pattern counts in each group
        that it is in.
    `misfit`: R of the training groups; None where nothing is compared with patterns.
    """

    epoch: int
    nepochs: int
    train_loss: float
    val_loss: float | None
    learning_rate: float
    seconds: float
    patterns_per_second: float
    misfit: float | None = None


#: Called after each epoch.
OnEpoch = Callable[[EpochReport], object]
