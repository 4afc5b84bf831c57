"""Check that weights of a file fit a network, then build it."""

from collections.abc import Mapping
from typing import get_type_hints

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ptychostream.config import ModelConfig, TrainingConfig
from ptychostream.errors import ConfigurationError, DataContractError
from ptychostream.models.pinn import PtychoPINN

#: Limit for sizes and counts in the description of a network, which a file may state at will.
_LARGEST = 4096

Shape = tuple[int, ...]


def check_shapes(
    config: TrainingConfig, probe_shape: Shape, shapes: Mapping[str, Shape], origin: str
) -> None:
    """Check that weights are those of the configured network, before memory is taken for it.

    `probe_shape`: E, P, N and N of the probe guess.
    """
    check_sizes(config.model, origin)
    edge = config.model.N
    if len(probe_shape) != 4 or probe_shape[2:] != (edge, edge):
        raise DataContractError(f"{origin} has a probe of shape {probe_shape}, but N={edge}")
    # The meta device takes no memory, even for a description far larger than its weights.
    try:
        with torch.device("meta"):
            sketch = _model(config, np.ones(probe_shape, np.complex64))
    except (ConfigurationError, RuntimeError, ValueError, TypeError, ArithmeticError) as error:
        raise DataContractError(f"{origin} describes no network: {error}") from error
    expected = {name: tuple(value.shape) for name, value in sketch.state_dict().items()}
    missing = sorted(set(expected) - set(shapes))
    unexpected = sorted(set(shapes) - set(expected))
    if missing or unexpected:
        raise DataContractError(
            f"{origin} does not fit its description: missing {missing[:3]}, unexpected "
            f"{unexpected[:3]}"
        )
    for name, shape in shapes.items():
        if shape != expected[name]:
            raise DataContractError(
                f"{origin} does not fit its description: '{name}' is {shape}, expected "
                f"{expected[name]}"
            )


def check_sizes(config: ModelConfig, origin: str) -> None:
    """Check that sizes and counts of a network are whole numbers, and none absurdly large."""
    for name, hint in get_type_hints(ModelConfig).items():
        value = getattr(config, name)
        if hint in (int, int | None) and value is not None and type(value) is not int:
            raise DataContractError(
                f"{origin} describes a network with {name}={value!r}, expected a whole number"
            )
        if isinstance(value, int) and value > _LARGEST:
            raise DataContractError(
                f"{origin} describes a network with {name}={value}, expected at most {_LARGEST}"
            )


def build_model(
    config: TrainingConfig,
    probe_guess: NDArray[np.complex64],
    weights: Mapping[str, Tensor],
    origin: str,
) -> PtychoPINN:
    """Build a network and give it weights; the caller's random state is not changed.

    `probe_guess` (E, P, N, N): illumination that training began with.
    """
    check_shapes(
        config, probe_guess.shape, {name: tuple(w.shape) for name, w in weights.items()}, origin
    )
    for name, value in weights.items():
        if not bool(torch.isfinite(value).all()):
            raise DataContractError(f"{origin}: '{name}' has values that are not finite")
    with torch.random.fork_rng(devices=[]):
        model = _model(config, probe_guess)
    model.load_state_dict(dict(weights), strict=True)
    return model.eval()


def _model(config: TrainingConfig, probe_guess: NDArray[np.complex64]) -> PtychoPINN:
    return PtychoPINN(
        config.model,
        probe_guess,
        probe_trainable=config.probe_trainable,
        intensity_scale_trainable=config.intensity_scale_trainable,
    )
