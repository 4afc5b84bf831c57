"""Mixed precision for convolutions alone: Fourier transforms and counts need all of float32."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, nn

#: By the names that the configuration uses.
_DTYPES = {"16-mixed": torch.float16, "bf16-mixed": torch.bfloat16}


@contextmanager
def mixed_convolutions(model: nn.Module, precision: str, device: str) -> Iterator[None]:
    """Let a model's convolutions and linear layers compute in half precision.

    What they return is float32 again, so that everything between them stays as it is.
    """
    dtype = _DTYPES.get(precision)
    layers = [] if dtype is None else [m for m in model.modules() if isinstance(m, _LAYERS)]
    for layer in layers:
        layer.forward = _in_half(layer.forward, device, dtype)  # type: ignore[method-assign,assignment]
    try:
        yield
    finally:
        for layer in layers:
            # Restores the method of the class.
            del layer.forward


_LAYERS = (nn.Conv2d, nn.ConvTranspose2d, nn.Linear)


def _in_half(
    forward: Callable[[Tensor], Tensor], device: str, dtype: torch.dtype | None
) -> Callable[[Tensor], Tensor]:
    def compute(x: Tensor) -> Tensor:
        with torch.autocast(device, dtype=dtype):
            y = forward(x)
        return y.float()

    return compute
