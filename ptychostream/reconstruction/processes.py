"""Share the prediction of patches among processes, one for each device."""

import json
import logging
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
from ptychostream.datasets.grouping.table import Groups
from ptychostream.datasets.store import GroupStore
from ptychostream.errors import ConfigurationError
from ptychostream.persistence.archive import save_bundle
from ptychostream.persistence.bundle import ModelBundle
from ptychostream.reconstruction.predict import Predicted

logger = logging.getLogger(__name__)

#: Batches that a process may be ahead of what was taken.
AHEAD = 3

#: Seconds that a process gets to end, once it has closed its output.
_FAREWELL = 10.0
#: Bytes at the end of a process's errors in which its last words are looked for.
_LAST_WORDS = 1 << 14


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
        processes: list[subprocess.Popen[str]] = []
        messages: queue.Queue[dict[str, Any]] = queue.Queue()
        try:
            for rank in range(world):
                errors = folder / f"stderr-{rank}"
                processes.append(_start(folder, rank, world, errors))
                listening = (rank, processes[-1], errors, messages)
                threading.Thread(target=_listen, args=listening, daemon=True).start()
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
                if process.stdin is not None:
                    process.stdin.close()


def _start(folder: Path, rank: int, world: int, errors: Path) -> "subprocess.Popen[str]":
    threads = max(1, torch.get_num_threads() // world)
    environment = os.environ | {"OMP_NUM_THREADS": str(threads)}
    run = [sys.executable, "-m", "ptychostream.reconstruction.worker", str(folder), str(rank)]
    with errors.open("wb") as stderr:
        return subprocess.Popen(
            run,
            # Closed when this process dies, however it does; so they notice.
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            # A pipe that nobody reads would fill, and the process wait for ever.
            stderr=stderr,
            text=True,
            errors="replace",
            env=environment,
            # A session of its own: an interrupt is for the parent to handle.
            start_new_session=True,
        )


def _listen(
    rank: int,
    process: "subprocess.Popen[str]",
    errors: Path,
    messages: "queue.Queue[dict[str, Any]]",
) -> None:
    """Pass on what a process says; at last that it is done, or why it never will be."""
    assert process.stdout is not None
    is_done = False
    try:
        with process.stdout:
            for line in process.stdout:
                message = _decode(line)
                if message is not None:
                    is_done = "file" not in message
                    messages.put(message)
                elif line.strip():
                    logger.debug("process %d prints: %s", rank, line.rstrip())
        if not is_done:
            messages.put({"rank": rank, "error": _why_it_ended(process, errors)})
    except Exception as error:
        # Whoever waits for messages must hear of it, or waits for ever.
        messages.put({"rank": rank, "error": f"listening to it failed: {error!r}"})


def _decode(line: str) -> dict[str, Any] | None:
    """Decode a message of `worker`; None for what a library prints between them."""
    try:
        message = json.loads(line)
    except ValueError:
        return None
    if not isinstance(message, dict):
        return None
    is_ours = {"file", "first"} <= message.keys() or {"read", "predict"} <= message.keys()
    return message if is_ours else None


def _why_it_ended(process: "subprocess.Popen[str]", errors: Path) -> str:
    code = process.wait(_FAREWELL)
    with errors.open("rb") as file:
        file.seek(max(0, errors.stat().st_size - _LAST_WORDS))
        said = file.read().decode(errors="replace").strip().splitlines()
    # One that a signal ended, as when memory is short, had no time to say why.
    return said[-1] if said and code > 0 else f"it ended with code {code}"
