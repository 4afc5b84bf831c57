"""Train in several processes on one machine, from inside any program.

The processes run `ptychostream.training.worker`, not the caller's script again: a host program with
windows or a prompt goes on, and hears of progress as if training ran inside it.
"""

import dataclasses
import json
import logging
import os
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType
from typing import Any

import torch

import ptychostream.errors
from ptychostream.config import PyTorchExecutionConfig, TrainingConfig, to_mapping
from ptychostream.datasets.store import GroupStore
from ptychostream.errors import ConfigurationError, PtychoStreamError, TrainingProcessError
from ptychostream.persistence import ModelBundle, load_bundle
from ptychostream.progress import ShouldStop
from ptychostream.training.progress import EpochReport, OnEpoch

#: Files by which the processes and their starter talk.
JOB, EVENTS, STOP, ERROR = "job.json", "events.jsonl", "stop", "error.json"

#: Seconds between two looks, and those that processes get to write a checkpoint and end.
_PAUSE, _GRACE = 0.05, 60.0


def is_launched() -> bool:
    """Say whether torchrun or srun started this process as one of several."""
    if "LOCAL_RANK" in os.environ and int(os.environ.get("WORLD_SIZE", "1")) > 1:
        return True
    return "SLURM_PROCID" in os.environ and int(os.environ.get("SLURM_NTASKS", "1")) > 1


def is_first_process() -> bool:
    """Say whether this process writes the files: the only one, or the first of several."""
    if not is_launched():
        return True
    return int(os.environ.get("RANK", os.environ.get("SLURM_PROCID", "0"))) == 0


def fit_to_launcher(execution: PyTorchExecutionConfig) -> PyTorchExecutionConfig:
    """Take the number of processes from torchrun, where that started them.

    Raises
    ------
    ConfigurationError
        If other numbers were asked for.
    """
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


def starts_processes(execution: PyTorchExecutionConfig) -> bool:
    """Say whether processes are to be started here.

    Raises
    ------
    ConfigurationError
        If several nodes are wanted without a launcher.
    """
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
    """Train in processes of their own; the arguments are those of `training.train`.

    Raises
    ------
    PtychoStreamError
        What the first failing process raised.
    TrainingProcessError
        If a process died without saying why.
    KeyboardInterrupt
        If a signal came; the processes have then written their checkpoint.
    """
    if execution.accelerator in ("gpu", "cuda") and torch.cuda.device_count() < execution.devices:
        raise ConfigurationError(
            f"accelerator={execution.accelerator!r} with devices={execution.devices}, but this "
            f"machine has {torch.cuda.device_count()} GPUs; use fewer, or 'cpu'"
        )
    with tempfile.TemporaryDirectory(prefix="ptychostream-") as name, _sigterm_interrupts():
        folder = Path(name)
        job = {
            "config": to_mapping(dataclasses.replace(config, n_images=None)),
            "execution": to_mapping(execution),
            "store": store.address,
            "validation": None if validation is None else validation.address,
            "resume_from": None if resume_from is None else str(resume_from.resolve()),
            "level": logging.getLogger("ptychostream").getEffectiveLevel(),
        }
        (folder / JOB).write_text(json.dumps(job, default=str))
        (folder / EVENTS).touch()
        processes = _start(folder, execution)
        try:
            with (folder / EVENTS).open() as events:
                _wait(processes, folder, events, on_epoch, should_stop)
        except KeyboardInterrupt:
            _end(processes, signal.SIGTERM)
            raise
        finally:
            _end(processes, signal.SIGKILL)
        return load_bundle(folder, restore=None)


def _start(folder: Path, execution: PyTorchExecutionConfig) -> list[subprocess.Popen[bytes]]:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    root = str(Path(ptychostream.errors.__file__).parents[1])
    path = os.pathsep.join(filter(None, (root, os.environ.get("PYTHONPATH"))))
    threads = str(max(1, torch.get_num_threads() // execution.devices))
    processes = []
    for rank in range(execution.devices):
        environment = {
            "OMP_NUM_THREADS": threads,
            **os.environ,
            "PYTHONPATH": path,
            "MASTER_ADDR": "127.0.0.1",
            "MASTER_PORT": str(port),
            "RANK": str(rank),
            "LOCAL_RANK": str(rank),
            "GROUP_RANK": "0",
            "WORLD_SIZE": str(execution.devices),
            "LOCAL_WORLD_SIZE": str(execution.devices),
            # By this Lightning knows that it need not start processes itself.
            "TORCHELASTIC_RUN_ID": folder.name,
        }
        shows_bar = rank == 0 and execution.enable_progress_bar
        with (folder / f"stderr-{rank}").open("wb") as errors:
            processes.append(
                subprocess.Popen(
                    [sys.executable, "-m", "ptychostream.training.worker", str(folder)],
                    env=environment,
                    # Closed when this process dies, however it does; so they notice.
                    stdin=subprocess.PIPE,
                    stdout=None if shows_bar else subprocess.DEVNULL,
                    stderr=errors,
                    # Ctrl-C comes to this process alone, which passes it on.
                    start_new_session=True,
                )
            )
    return processes


def _wait(
    processes: list[subprocess.Popen[bytes]],
    folder: Path,
    events: Any,
    on_epoch: OnEpoch | None,
    should_stop: ShouldStop | None,
) -> None:
    """Pass events on until all processes have ended, or one has failed."""
    while True:
        codes = [process.poll() for process in processes]
        _pass_on(events, on_epoch)
        if any(codes):
            _raise_failure(processes, folder)
        if all(code == 0 for code in codes):
            return
        if should_stop is not None and should_stop():
            (folder / STOP).touch()
        time.sleep(_PAUSE)


def _pass_on(events: Any, on_epoch: OnEpoch | None) -> None:
    while line := events.readline():
        event = json.loads(line)
        if "epoch" in event:
            if on_epoch is not None:
                on_epoch(EpochReport(**event["epoch"]))
        else:
            logging.getLogger(event["name"]).log(event["level"], "%s", event["message"])


def _raise_failure(processes: list[subprocess.Popen[bytes]], folder: Path) -> None:
    # The others fail soon after the first one, which alone knows why.
    deadline = time.monotonic() + 2.0
    while time.monotonic() < deadline and not (folder / ERROR).exists():
        time.sleep(_PAUSE)
    codes = [process.poll() for process in processes]
    if 130 in codes:
        raise KeyboardInterrupt
    if (folder / ERROR).exists():
        found = json.loads((folder / ERROR).read_text())
        kind = getattr(ptychostream.errors, found["kind"], PtychoStreamError)
        raise kind(found["message"])
    rank = next(rank for rank, code in enumerate(codes) if code)
    said = (folder / f"stderr-{rank}").read_text(errors="replace").strip().splitlines()
    raise TrainingProcessError(
        f"process {rank} of {len(processes)} ended with code {codes[rank]}; its last words: "
        f"{said[-1] if said else 'none'}"
    )


def _end(processes: list[subprocess.Popen[bytes]], how: signal.Signals) -> None:
    for process in processes:
        if process.poll() is None:
            process.send_signal(how)
    deadline = time.monotonic() + _GRACE
    for process in processes:
        try:
            process.wait(max(0.0, deadline - time.monotonic()))
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
        if process.stdin is not None and how == signal.SIGKILL:
            process.stdin.close()


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
