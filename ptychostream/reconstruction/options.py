"""Check the execution options of a reconstruction, and choose device and batch size."""

import logging
import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from ptychostream.config import ModelConfig, PyTorchExecutionConfig
from ptychostream.datasets.store import GroupStore
from ptychostream.errors import ConfigurationError, DataContractError
from ptychostream.launcher import fit_to_launcher, is_launched
from ptychostream.memory import parse_bytes

if TYPE_CHECKING:
    from ptychostream.persistence.bundle import ModelBundle

logger = logging.getLogger(__name__)

#: Pixels of patches in a batch that a processor's caches hold; more are not faster there.
_PIXELS_PER_BATCH = 64 * 64 * 64

#: Memory of a machine whose system does not tell, in bytes.
_MEMORY_UNTOLD = 4 * 2**30

#: Memory that a batch takes for each pixel of its patches, with the widest of our networks.
_BYTES_PER_PIXEL = 800

#: Options that inference would have to obey but cannot: the values that are accepted.
_ONLY: dict[str, tuple[Any, ...]] = {
    "num_nodes": (1,),
    "strategy": ("auto", "ddp", "dp"),
    "pin_memory": (False,),
    "prefetch_factor": (None,),
}


def check_execution(execution: PyTorchExecutionConfig) -> None:
    """Refuse execution options that a reconstruction cannot honour.

    Options of training, such as the learning rate, do not concern it: one configuration may
    serve both.
    """
    # Nodes are what torchrun or srun has started.
    fit_to_launcher(execution)
    for name, values in _ONLY.items():
        asked = getattr(execution, name)
        if name == "num_nodes" and is_launched():
            continue
        if asked not in values:
            raise ConfigurationError(
                f"{name}={asked!r} is not available when reconstructing; there is "
                f"{' or '.join(map(repr, values))}"
            )
    parse_bytes(execution.memory_budget)
    if execution.precision == "16-mixed" and choose_device(execution.accelerator).type == "cpu":
        raise ConfigurationError("precision='16-mixed' needs a GPU; use 'bf16-mixed' on the CPU")


def choose_device(accelerator: str) -> torch.device:
    """Return the device of an accelerator's name."""
    available = {"cuda": torch.cuda.is_available(), "mps": torch.backends.mps.is_available()}
    wanted = {"gpu": "mps" if available["mps"] else "cuda"}.get(accelerator, accelerator)
    if wanted == "auto":
        wanted = next((name for name, present in available.items() if present), "cpu")
    if not available.get(wanted, True):
        raise ConfigurationError(
            f"accelerator={accelerator!r} was asked for but this machine has none; use 'cpu'"
        )
    return torch.device(wanted)


def choose_experiment(bundle: "ModelBundle", store: GroupStore, experiment: int | None) -> int:
    """Find the experiment to reconstruct, and check that the model fits it."""
    if store.N != bundle.config.model.N:
        raise DataContractError(
            f"'{store.path}' has patterns of {store.N} px but the model was made for "
            f"{bundle.config.model.N} px; use a model of that size"
        )
    if experiment is None and store.num_experiments > 1:
        raise DataContractError(
            f"'{store.path}' holds {store.num_experiments} experiments; choose one by "
            "--experiment (experiment=0, 1, …)"
        )
    experiment = experiment or 0
    store.rows(experiment)
    return experiment


def batch_size_for(group_size: int, patch_size: int, device: torch.device) -> int:
    """Choose how many groups are predicted together, by the available memory."""
    pixels = group_size * patch_size**2
    if device.type == "cuda":
        free, _ = torch.cuda.mem_get_info(device)
        return max(1, free // (4 * _BYTES_PER_PIXEL * pixels))
    room = _available_memory() // (4 * _BYTES_PER_PIXEL)
    return max(1, min(_PIXELS_PER_BATCH, room) // pixels)


def _available_memory() -> int:
    """Return the available memory in bytes; all of it where the system does not report it."""
    try:
        lines = Path("/proc/meminfo").read_text().splitlines()
        return next(1024 * int(n.split()[1]) for n in lines if n.startswith("MemAvailable"))
    except (OSError, StopIteration):
        if not hasattr(os, "sysconf"):
            return _MEMORY_UNTOLD
        return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")


def amplitude_limit(model: ModelConfig) -> float | None:
    """Find the largest amplitude that a network can give."""
    is_bounded = model.architecture != "unrolled" and model.amp_activation == "sigmoid"
    return 1.0 if is_bounded else None
