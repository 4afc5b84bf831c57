"""Run the network over groups: patches, batch by batch, in the order of the group table."""

import math
import os
import time
from collections.abc import Callable, Generator, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from copy import deepcopy
from functools import partial
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from tensordict import TensorDict
from torch import Tensor

from ptychostream.config import PyTorchExecutionConfig
from ptychostream.datasets.batches.loader import GroupLoader, make_loader
from ptychostream.datasets.batches.scaling import Scales
from ptychostream.datasets.grouping.table import Groups
from ptychostream.datasets.store import GroupStore
from ptychostream.errors import ConfigurationError
from ptychostream.models.pinn import PtychoPINN
from ptychostream.models.precision import mixed_convolutions
from ptychostream.reconstruction.rescale import rescaled


class Predicted(NamedTuple):
    """The patches of a batch of groups.

    `patches` (B, C, N, N).
    `members` (B, C): the patterns that they belong to.
    `nodes` (B,): rows of the group table.
    `read_s`, `predict_s`: seconds spent waiting for the batch, and in the network.
    """

    patches: Tensor
    members: NDArray[np.int64]
    nodes: NDArray[np.int64]
    read_s: float
    predict_s: float


def inference_loader(
    store: GroupStore,
    groups: Groups,
    scales: Scales,
    execution: PyTorchExecutionConfig,
    batch_size: int,
    device: torch.device,
) -> GroupLoader:
    """Serve groups in the order of their table.

    `groups`: in the order in which the store holds them, which reads least.
    """
    return make_loader(
        store,
        groups,
        batch_size=batch_size,
        order="table",
        # Each copy of the model moves its part of the batch to its own device.
        device="cpu" if execution.strategy == "dp" else str(device),
        scales=scales,
        memory_budget=execution.memory_budget,
        num_threads=execution.num_workers,
    )


def predict(
    model: PtychoPINN,
    loader: GroupLoader,
    execution: PyTorchExecutionConfig,
    *,
    first: int = 0,
    rescales: bool = False,
) -> Generator[Predicted, None, None]:
    """Predict the patches of all groups of a loader, on the model's device.

    `first`: row of the first group in the whole table.
    `rescales`: whether each patch is scaled to fit its own pattern.
    """
    began = time.perf_counter()
    with replicated(model, execution, rescales=rescales) as reconstruct:
        for batch in loader:
            read = time.perf_counter()
            members = batch["nn_indices"].cpu().numpy()
            patches = reconstruct(batch).to(torch.complex64)
            nodes = np.arange(first, first + len(members))
            yield Predicted(patches, members, nodes, read - began, time.perf_counter() - read)
            first += len(members)
            began = time.perf_counter()


#: Predicts the patches (B, C, N, N) complex64 of a batch, on the model's device.
Reconstruct = Callable[[TensorDict], Tensor]


@contextmanager
def replicated(
    model: PtychoPINN, execution: PyTorchExecutionConfig, *, rescales: bool = False
) -> Iterator[Reconstruct]:
    """Make a function that reconstructs batches, on several devices where `strategy` is `dp`."""
    devices = _devices(execution, model.log_scale.device)
    models = [model, *(deepcopy(model).to(device) for device in devices[1:])]
    with ExitStack() as stack:
        for part, device in zip(models, devices, strict=True):
            stack.enter_context(mixed_convolutions(part, execution.precision, device.type))
        threads = stack.enter_context(ThreadPoolExecutor(len(models)))
        one = partial(_reconstruct, rescales=rescales)

        def reconstruct(batch: TensorDict) -> Tensor:
            with _deterministic(execution.deterministic, devices[0]):
                if len(models) == 1:
                    return one(model, devices[0], batch)
                shares = batch.split(math.ceil(len(batch) / len(models)))
                parts = threads.map(one, models, devices, shares)
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


def _reconstruct(
    model: PtychoPINN, device: torch.device, batch: TensorDict, *, rescales: bool
) -> Tensor:
    moved = batch.to(device)
    # `torch.no_grad` holds for one thread only.
    with torch.no_grad():
        patches = model.reconstruct(
            model.network_input(moved), moved["coords_relative"], moved["experiment_id"]
        )
        if rescales:
            patches = rescaled(model, patches, moved)
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    return patches


@contextmanager
def _deterministic(asked: bool | str, device: torch.device) -> Iterator[None]:
    """Use deterministic algorithms only; with `warn`, others are used with a warning."""
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
