"""Processes that torchrun or srun started together."""

import dataclasses
import os

from ptychostream.config import PyTorchExecutionConfig
from ptychostream.errors import ConfigurationError


def launched_as() -> tuple[int, int]:
    """Return which of the launcher's processes this is, from 0 on, and how many there are.

    (0, 1) where none was launched.
    """
    values = os.environ
    if "LOCAL_RANK" in values and int(values.get("WORLD_SIZE", "1")) > 1:
        return int(values.get("RANK", "0")), int(values["WORLD_SIZE"])
    if "SLURM_PROCID" in values and int(values.get("SLURM_NTASKS", "1")) > 1:
        return int(values["SLURM_PROCID"]), int(values["SLURM_NTASKS"])
    return 0, 1


def is_launched() -> bool:
    """Return whether torchrun or srun started this process as one of several."""
    return launched_as()[1] > 1


def is_first_process() -> bool:
    """Return whether this process writes the files: the only one, or the first of several."""
    return launched_as()[0] == 0


def fit_to_launcher(execution: PyTorchExecutionConfig) -> PyTorchExecutionConfig:
    """Take the number of processes from torchrun, where that started them."""
    if "LOCAL_WORLD_SIZE" not in os.environ or not is_launched():
        return execution
    here = int(os.environ["LOCAL_WORLD_SIZE"])
    nodes = int(os.environ["WORLD_SIZE"]) // here
    asked = (execution.devices, execution.num_nodes)
    if asked not in ((1, 1), (here, nodes)):
        raise ConfigurationError(
            f"devices={asked[0]} and num_nodes={asked[1]}, but torchrun started {here} processes "
            f"on each of {nodes} nodes; leave both out"
        )
    return dataclasses.replace(execution, devices=here, num_nodes=nodes)
