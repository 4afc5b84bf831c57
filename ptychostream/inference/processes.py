"""Share the prediction of patches among processes, one for each device."""

import json
import os
import queue
import subprocess
import sys
import tempfile
import threading
from collections.abc import Generator
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import torch

from ptychostream.config import PyTorchExecutionConfig
from ptychostream.datasets.store import GroupStore
from ptychostream.datasets.store.groups import Groups
from ptychostream.errors import ConfigurationError
from ptychostream.inference.predict import Predicted
from ptychostream.persistence.archive import save_bundle
from ptychostream.persistence.bundle import ModelBundle

#: Batches that a process may be ahead of what was taken.
AHEAD = 3


def predict_in_processes(
    bundle: ModelBundle,
    store: GroupStore,
    groups: Groups,
    execution: PyTorchExecutionConfig,
    batch_size: int,
    device: torch.device,
    seconds: dict[str, float],
    *,
    scratch_folder: Path | None = None,
) -> Generator[Predicted, None, None]:
    """Predict the patches of all groups in `execution.devices` processes.

    Each process is a fresh Python that opens the store and the model by itself, and predicts
    its own part of the table. Patches come through files, a few at a time.

    Parameters
    ----------
    bundle : ModelBundle
        The model.
    store : GroupStore
        The data.
    groups : Groups
        The table.
    execution : PyTorchExecutionConfig
        Number of devices, precision, memory budget of each.
    batch_size : int
        Groups per batch.
    device : torch.device
        Kind of the devices.
    seconds : dict
        The processes' mean times are added to `read` and `predict`.
    scratch_folder : Path, optional
        Where the files lie; None is the system's folder for temporary files.

    Yields
    ------
    patches : (B, C, N, N) complex64
        Object patches, in host memory.
    members : (B, C) int64
        The patterns that they belong to.
    nodes : (B,) int64
        Rows of the group table.

    Raises
    ------
    ConfigurationError
        If there are fewer devices or groups than asked for, or a process fails; the message
        is its own.
    """
    world = execution.devices
    if device.type == "cuda" and torch.cuda.device_count() < world:
        raise ConfigurationError(
            f"devices={world} but this machine has {torch.cuda.device_count()}; ask for fewer"
        )
    if device.type not in ("cuda", "cpu"):
        raise ConfigurationError(f"devices={world} is not available on {device.type}; use 1")
    if len(groups) < world:
        raise ConfigurationError(f"{len(groups)} groups cannot be shared by devices={world}")
    with tempfile.TemporaryDirectory(prefix=".ptychostream-predict-", dir=scratch_folder) as name:
        folder = Path(name)
        save_bundle(bundle, folder)
        np.save(folder / "groups.npy", groups.nn_indices)
        request = {
            "store": store.address,
            "execution": asdict(execution),
            "parameters": asdict(groups.parameters),
            "batch_size": batch_size,
            "device": device.type,
        }
        (folder / "request.json").write_text(json.dumps(request))
        processes = [_start(folder, rank, world) for rank in range(world)]
        messages: queue.Queue[dict[str, Any]] = queue.Queue()
        for rank, process in enumerate(processes):
            reader = threading.Thread(target=_listen, args=(rank, process, messages), daemon=True)
            reader.start()
        try:
            running = world
            while running:
                message = messages.get()
                if "error" in message:
                    raise ConfigurationError(
                        f"process {message['rank']} of {world} failed: {message['error']}"
                    )
                if "file" not in message:
                    running -= 1
                    for part in ("read", "predict"):
                        seconds[part] += message[part] / world
                    continue
                file = folder / message["file"]
                patches = torch.from_numpy(np.load(file))
                file.unlink()
                nodes = np.arange(message["first"], message["first"] + len(patches))
                yield patches, groups.nn_indices[nodes], nodes
        finally:
            for process in processes:
                process.kill()
                process.wait()


def _start(folder: Path, rank: int, world: int) -> "subprocess.Popen[str]":
    threads = max(1, torch.get_num_threads() // world)
    environment = os.environ | {"OMP_NUM_THREADS": str(threads)}
    run = [sys.executable, "-m", "ptychostream.inference.worker", str(folder), str(rank)]
    # A session of its own: an interrupt is for the parent to handle.
    return subprocess.Popen(
        run,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=environment,
        start_new_session=True,
    )


def _listen(
    rank: int, process: "subprocess.Popen[str]", messages: "queue.Queue[dict[str, Any]]"
) -> None:
    """Pass on what a process says, and how it ends."""
    assert process.stdout is not None
    assert process.stderr is not None
    with process.stdout, process.stderr:
        is_done = False
        for line in process.stdout:
            message = json.loads(line)
            is_done = "file" not in message
            messages.put(message)
        if not is_done:
            said = process.stderr.read().strip().splitlines()
            error = said[-1] if said else f"it ended with code {process.wait()}"
            messages.put({"rank": rank, "error": error})
