"""Activations of the decoders, by the names that the configuration uses."""

from collections.abc import Callable

import torch
from torch import Tensor
from torch.nn import functional

AMPLITUDE_ACTIVATIONS: dict[str, Callable[[Tensor], Tensor]] = {
    "sigmoid": torch.sigmoid,
    "swish": functional.silu,
    "softplus": functional.softplus,
    "relu": functional.relu,
}


def phase_activation(x: Tensor) -> Tensor:
    """Map to a phase in (-π, π).

    `x` (...): any real numbers.
    Returns (...): π·tanh(x), in radians.
    """
    return torch.pi * torch.tanh(x)
