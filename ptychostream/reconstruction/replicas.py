"""One process, several devices: each batch is divided among copies of the model."""

import math
import os
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from copy import deepcopy
from types import TracebackType

import torch
from tensordict import TensorDict
from torch import Tensor

from ptychostream.config import PyTorchExecutionConfig
from ptychostream.errors import ConfigurationError
from ptychostream.models.pinn import PtychoPINN
from ptychostream.models.precision import mixed_convolutions


def devices_of(execution: PyTorchExecutionConfig, device: torch.device) -> list[torch.device]:
    """Find the devices among which a batch is divided.

    Parameters
    ----------
    execution : PyTorchExecutionConfig
        `strategy` `dp` divides batches; with others, a process has one device.

    Raises
    ------
    ConfigurationError
        If there are fewer devices than asked for.
    """
    if execution.strategy != "dp" or execution.devices == 1:
        return [device]
    if device.type == "cuda" and torch.cuda.device_count() < execution.devices:
        raise ConfigurationError(
            f"devices={execution.devices} but this machine has {torch.cuda.device_count()}; "
            "ask for fewer"
        )
    if device.type == "cuda":
        # The model's own comes first.
        first = torch.cuda.current_device() if device.index is None else device.index
        others = [index for index in range(torch.cuda.device_count()) if index != first]
        return [torch.device("cuda", i) for i in [first, *others][: execution.devices]]
    if device.type == "cpu":
        # Threads of one processor: no faster, but the same way through the code.
        return [device] * execution.devices
    raise ConfigurationError(
        f"devices={execution.devices} is not available on {device.type}; use 1"
    )


class Replicas:
    """Copies of a model, one for each device; as a context, ready to compute.

    Parameters
    ----------
    devices : list of torch.device
        The devices. With a single one nothing is copied or divided.
    """

    def __init__(
        self, model: PtychoPINN, devices: list[torch.device], execution: PyTorchExecutionConfig
    ) -> None:
        copies = [deepcopy(model).to(device) for device in devices[1:]]
        self._parts = list(zip([model, *copies], devices, strict=True))
        self._execution = execution
        self._stack = ExitStack()
        self._threads: ThreadPoolExecutor | None = None

    def __enter__(self) -> "Replicas":
        for model, device in self._parts:
            self._stack.enter_context(
                mixed_convolutions(model, self._execution.precision, device.type)
            )
        if len(self._parts) > 1:
            self._threads = self._stack.enter_context(ThreadPoolExecutor(len(self._parts)))
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._stack.close()

    def reconstruct(self, batch: TensorDict) -> Tensor:
        """Predict the patches of a batch.

        Returns
        -------
        (B, C, N, N) complex64
            Object patches, on the first device.
        """
        with _deterministic(self._execution.deterministic, self._parts[0][1]):
            if self._threads is None:
                return _reconstruct(*self._parts[0], batch)
            shares = batch.split(math.ceil(len(batch) / len(self._parts)))
            futures = [
                self._threads.submit(_reconstruct, model, device, share)
                for (model, device), share in zip(self._parts, shares, strict=False)
            ]
            return torch.cat([future.result().to(self._parts[0][1]) for future in futures])


def _reconstruct(model: PtychoPINN, device: torch.device, batch: TensorDict) -> Tensor:
    moved = batch.to(device)
    # Each thread has its own mind about gradients.
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
        # cuBLAS asks for it, before its first use.
        os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
    torch.use_deterministic_algorithms(bool(asked), warn_only=asked == "warn")
    try:
        yield
    finally:
        torch.use_deterministic_algorithms(before, warn_only=warned)
