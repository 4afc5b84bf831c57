"""Run the network over groups: patches, batch by batch, in the order of the group table."""

import time
from collections.abc import Generator

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ptychostream.config import PyTorchExecutionConfig
from ptychostream.datasets.batches.loader import GroupLoader, make_loader
from ptychostream.datasets.batches.scaling import Scales
from ptychostream.datasets.grouping.table import Groups
from ptychostream.datasets.store import GroupStore
from ptychostream.models.pinn import PtychoPINN
from ptychostream.reconstruction.replicas import replicated

#: Patches (B, C, N, N) of some groups, their members (B, C), and their rows of the table (B,).
Predicted = tuple[Tensor, NDArray[np.int64], NDArray[np.int64]]


def inference_loader(
    store: GroupStore,
    groups: Groups,
    scales: Scales,
    execution: PyTorchExecutionConfig,
    batch_size: int,
    device: torch.device,
) -> GroupLoader:
    """Serve groups in the order of their table.

    Parameters
    ----------
    groups : Groups
        In the order in which the store holds them, which reads least.
    """
    return make_loader(
        store,
        groups,
        batch_size=batch_size,
        order="table",
        # Copies of the model each take their part to their own device.
        device="cpu" if execution.strategy == "dp" else str(device),
        scales=scales,
        memory_budget=execution.memory_budget,
        num_threads=execution.num_workers,
    )


def predict(
    model: PtychoPINN,
    loader: GroupLoader,
    execution: PyTorchExecutionConfig,
    seconds: dict[str, float],
    *,
    first: int = 0,
) -> Generator[Predicted, None, None]:
    """Predict the patches of all groups of a loader.

    Parameters
    ----------
    seconds : dict
        Time spent waiting for data and in the network is added to `read` and `predict`.

    Yields
    ------
    patches : (B, C, N, N) complex64
        Object patches, on the model's device.
    members : (B, C) int64
        The patterns that they belong to.
    nodes : (B,) int64
        Rows of the group table.
    """
    began = time.perf_counter()
    with replicated(model, execution) as reconstruct:
        for batch in loader:
            seconds["read"] += time.perf_counter() - began
            began = time.perf_counter()
            members = batch["nn_indices"].cpu().numpy()
            patches = reconstruct(batch).to(torch.complex64)
            seconds["predict"] += time.perf_counter() - began
            yield patches, members, np.arange(first, first + len(members))
            first += len(members)
            began = time.perf_counter()
