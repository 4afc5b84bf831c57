"""Share the prediction of patches among processes, one for each device."""

import tempfile
from collections.abc import Generator
from dataclasses import asdict
from pathlib import Path

import numpy as np
import torch

from ptychostream.children import ChildError, ChildGroup, Job, Output
from ptychostream.config import PyTorchExecutionConfig
from ptychostream.datasets.grouping.table import Groups
from ptychostream.datasets.store import GroupStore
from ptychostream.errors import ConfigurationError
from ptychostream.persistence.archive import save_bundle
from ptychostream.persistence.bundle import ModelBundle
from ptychostream.reconstruction.predict import Predicted

#: Batches that a process may be ahead of what was taken.
AHEAD = 3

_TIMES = ("read_s", "predict_s")


def predict_in_processes(
    bundle: ModelBundle,
    store: GroupStore,
    groups: Groups,
    execution: PyTorchExecutionConfig,
    batch_size: int,
    device: torch.device,
    *,
    rescales: bool = False,
    scratch_folder: Path | None = None,
) -> Generator[Predicted, None, None]:
    """Predict the patches of all groups in `execution.devices` processes.

    Each process is a fresh Python that opens the store and the model by itself, and predicts
    its own part of the table. Patches come through files, a few at a time, in `scratch_folder`
    or the system's folder for temporary files. What is yielded is as by `predict.predict`, with
    patches in host memory.
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
        arguments = {
            "folder": folder.resolve(),
            "store": store.address,
            "execution": asdict(execution),
            "parameters": asdict(groups.parameters),
            "batch_size": batch_size,
            "device": device.type,
            "rescales": rescales,
        }
        threads = str(max(1, torch.get_num_threads() // world))
        jobs = [
            Job(
                "ptychostream.reconstruction.worker:run",
                arguments | {"rank": rank},
                environment={"OMP_NUM_THREADS": threads},
                log=None,
            )
            for rank in range(world)
        ]
        # After a stop the patches of the processes are not needed: end them at once.
        with ChildGroup(jobs, stop_grace_s=0.0) as group:
            try:
                for _, message in group:
                    if isinstance(message, Output):
                        file = message.paths["patches"]
                        patches = torch.from_numpy(np.load(file))
                        file.unlink()
                        first = message.values["first"]
                        nodes = np.arange(first, first + len(patches))
                        # Processes work at the same time: the mean of their seconds is counted.
                        read_s, predict_s = (message.values[s] / world for s in _TIMES)
                        members = groups.nn_indices[nodes]
                        yield Predicted(patches, members, nodes, read_s, predict_s)
            except ChildError as error:
                raise ConfigurationError(
                    f"process {error.number} of {world} failed: {error}"
                ) from error
