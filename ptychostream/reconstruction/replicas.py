"""One process, several devices: each batch is divided among copies of the model."""

import math
import os
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from copy import deepcopy

import torch
from tensordict import TensorDict
from torch import Tensor

from ptychostream.config import PyTorchExecutionConfig
from ptychostream.errors import ConfigurationError
from ptychostream.models.pinn import PtychoPINN
from ptychostream.models.precision import mixed_convolutions

#: Predicts the patches (B, C, N, N) complex64 of a batch, on the model's device.
Reconstruct = Callable[[TensorDict], Tensor]


@contextmanager
def replicated(model: PtychoPINN, execution: PyTorchExecutionConfig) -> Iterator[Reconstruct]:
    """Make a function that reconstructs batches, on several devices where `strategy` is `dp`.

    Raises
    ------
    ConfigurationError
        If there are fewer devices than asked for.
    """
    devices = _devices(execution, model.log_scale.device)
    models = [model, *(deepcopy(model).to(device) for device in devices[1:])]
    with ExitStack() as stack:
        for part, device in zip(models, devices, strict=True):
            stack.enter_context(mixed_convolutions(part, execution.precision, device.type))
        threads = stack.enter_context(ThreadPoolExecutor(len(models)))

        def reconstruct(batch: TensorDict) -> Tensor:
            with _deterministic(execution.deterministic, devices[0]):
                if len(models) == 1:
                    return _reconstruct(model, devices[0], batch)
                shares = batch.split(math.ceil(len(batch) / len(models)))
                parts = threads.map(_reconstruct, models, devices, shares)
                return torch.cat([part.to(devices[0]) for part in parts])

        yield reconstruct


def _devices(execution: PyTorchExecutionConfig, device: torch.device) -> list[torch.device]:
    """Find the devices among which a batch is divided, the model's own first."""
    if execution.strategy != "dp" or execution.devices == 1:
        return [device]
    if device.type == "cpu":
        return [device] * execution.devices
    if device.type != "cuda":
        raise ConfigurationError(
            f"devices={execution.devices} is not available on {device.type}; use 1"
        )
    if torch.cuda.device_count() < execution.devices:
        raise ConfigurationError(
            f"devices={execution.devices} but this machine has {torch.cuda.device_count()}; "
            "ask for fewer"
        )
    first = torch.cuda.current_device() if device.index is None else device.index
    others = [index for index in range(torch.cuda.device_count()) if index != first]
    return [torch.device("cuda", i) for i in [first, *others][: execution.devices]]


def _reconstruct(model: PtychoPINN, device: torch.device, batch: TensorDict) -> Tensor:
    moved = batch.to(device)
    # `torch.no_grad` holds for one thread only.
    with torch.no_grad():
        patches = model.reconstruct(
            model.network_input(moved), moved["coords_relative"], moved["experiment_id"]
        )
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    return patches


@contextmanager
def _deterministic(asked: bool | str, device: torch.device) -> Iterator[None]:
    """Use deterministic algorithms only; `warn` complains of others, and uses them."""
    before = torch.are_deterministic_algorithms_enabled()
    warned = torch.is_deterministic_algorithms_warn_only_enabled()
    if asked and device.type == "cuda":
        # cuBLAS reads it before its first use.
        os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
    torch.use_deterministic_algorithms(bool(asked), warn_only=asked == "warn")
    try:
        yield
    finally:
        torch.use_deterministic_algorithms(before, warn_only=warned)
