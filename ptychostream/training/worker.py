"""The task of each process that `processes.train_in_processes` starts."""

import dataclasses
import warnings
from typing import Any

from ptychostream.children import Channel
from ptychostream.config import PyTorchExecutionConfig, TrainingConfig, from_mapping
from ptychostream.datasets.store import open_group_store
from ptychostream.launcher import is_first_process
from ptychostream.persistence import save_bundle
from ptychostream.training.progress import EpochReport
from ptychostream.training.train import train


def run(arguments: dict[str, Any], channel: Channel) -> None:
    """Train this process's share; the first process writes the model into the parent's folder."""
    # Warnings of libraries would appear once per process.
    warnings.simplefilter("ignore")
    validation = arguments["validation"]

    def report(epoch: EpochReport) -> None:
        channel.progress(epoch.epoch, epoch.nepochs, dataclasses.asdict(epoch))

    bundle = train(
        from_mapping(TrainingConfig, arguments["config"]),
        open_group_store(arguments["store"]),
        validation=None if validation is None else open_group_store(validation),
        execution=from_mapping(PyTorchExecutionConfig, arguments["execution"]),
        on_epoch=report,
        should_stop=channel.should_stop,
        resume_from=arguments["resume_from"],
    )
    if is_first_process():
        save_bundle(bundle, arguments["folder"])
