"""Train in several processes on one machine, from inside any program.

The processes do not run the caller's script again: a host program with windows or a prompt keeps
running, and its callbacks are called as if training ran inside it.
"""

import dataclasses
import logging
import os
import signal
import socket
import tempfile
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType

import torch

from ptychostream.children import ChildError, ChildGroup, Job, Progress
from ptychostream.config import PyTorchExecutionConfig, TrainingConfig, to_mapping
from ptychostream.datasets.store import GroupStore
from ptychostream.errors import ConfigurationError, TrainingProcessError
from ptychostream.launcher import is_launched
from ptychostream.persistence import ModelBundle, load_bundle
from ptychostream.progress import ShouldStop
from ptychostream.training.progress import EpochReport, OnEpoch

#: Seconds that interrupted processes get to write a checkpoint and end.
_GRACE_S = 60.0


def starts_processes(execution: PyTorchExecutionConfig) -> bool:
    """Return whether processes are to be started here."""
    if is_launched():
        return False
    if execution.num_nodes > 1:
        raise ConfigurationError(
            f"num_nodes={execution.num_nodes}: start the program on every node, with "
            f"torchrun --nnodes {execution.num_nodes} --nproc_per_node {execution.devices} "
            "--rdzv_endpoint HOST:PORT, or with srun"
        )
    return execution.devices > 1


def train_in_processes(
    config: TrainingConfig,
    store: GroupStore,
    validation: GroupStore | None,
    execution: PyTorchExecutionConfig,
    *,
    on_epoch: OnEpoch | None,
    should_stop: ShouldStop | None,
    resume_from: Path | None,
) -> ModelBundle:
    """Train in processes of their own; the arguments are those of `training.train`."""
    if execution.accelerator in ("gpu", "cuda") and torch.cuda.device_count() < execution.devices:
        raise ConfigurationError(
            f"accelerator={execution.accelerator!r} with devices={execution.devices}, but this "
            f"machine has {torch.cuda.device_count()} GPUs; use fewer, or 'cpu'"
        )
    with tempfile.TemporaryDirectory(prefix="ptychostream-") as folder, _sigterm_interrupts():
        arguments = {
            "config": to_mapping(dataclasses.replace(config, n_images=None)),
            "execution": to_mapping(execution),
            "store": store.address,
            "validation": None if validation is None else validation.address,
            "resume_from": None if resume_from is None else resume_from.resolve(),
            "folder": folder,
        }
        first = Job(
            "ptychostream.training.worker:run",
            arguments,
            log=logging.getLogger("ptychostream"),
            printed_level=None if execution.enable_progress_bar else logging.DEBUG,
        )
        others = [dataclasses.replace(first, log=None, printed_level=logging.DEBUG)]
        jobs = [
            dataclasses.replace(job, environment=environment)
            for job, environment in zip(
                [first, *others * (execution.devices - 1)], _environments(execution), strict=True
            )
        ]
        with ChildGroup(jobs, heartbeat_s=0.05) as group:
            _follow(group, len(jobs), on_epoch, should_stop)
        return load_bundle(folder, restore=None)


def _environments(execution: PyTorchExecutionConfig) -> Iterator[dict[str, str]]:
    """Describe each process's place among the others, as torchrun does."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    threads = str(max(1, torch.get_num_threads() // execution.devices))
    for rank in range(execution.devices):
        yield {
            "OMP_NUM_THREADS": os.environ.get("OMP_NUM_THREADS", threads),
            "MASTER_ADDR": "127.0.0.1",
            "MASTER_PORT": str(port),
            "RANK": str(rank),
            "LOCAL_RANK": str(rank),
            "GROUP_RANK": "0",
            "WORLD_SIZE": str(execution.devices),
            "LOCAL_WORLD_SIZE": str(execution.devices),
            # With this, Lightning does not start processes itself.
            "TORCHELASTIC_RUN_ID": f"ptychostream-{port}",
        }


def _follow(
    group: ChildGroup, number: int, on_epoch: OnEpoch | None, should_stop: ShouldStop | None
) -> None:
    """Report epochs until all processes have ended, or one has failed."""
    try:
        for _, message in group:
            if isinstance(message, Progress) and on_epoch is not None:
                on_epoch(EpochReport(**message.values))
            if should_stop is not None and should_stop():
                group.ask_to_stop()
    except ChildError as error:
        raise error.original or TrainingProcessError(
            f"process {error.number} of {number} failed: {error}"
        ) from error
    except KeyboardInterrupt:
        group.interrupt(_GRACE_S)
        raise


@contextmanager
def _sigterm_interrupts() -> Iterator[None]:
    """Treat SIGTERM as Ctrl-C, where this is the main thread."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return

    def interrupt(number: int, frame: FrameType | None) -> None:
        raise KeyboardInterrupt

    before = signal.signal(signal.SIGTERM, interrupt)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)
