"""Limit gradients in proportion to the weights that they change."""

from collections.abc import Iterable

import torch
from torch import Tensor, nn

#: Least norm of weights that is assumed; otherwise layers that start at zero would never change.
_LEAST = 1e-3


@torch.no_grad()
def clip_by_weights(parameters: Iterable[nn.Parameter], ratio: float) -> None:
    """Scale down the gradients that are too large for their weights, in place.

    Parameters
    ----------
    ratio : float
        Largest norm of a unit's gradient, relative to the norm of its weights; a unit is one output
        channel.

    References
    ----------
    Brock, De, Smith & Simonyan, arXiv:2102.06171 (2021), equation 3.
    """
    for parameter in parameters:
        if parameter.grad is None:
            continue
        limit = _unit_norms(parameter).clamp_min(_LEAST) * ratio
        norm = _unit_norms(parameter.grad)
        parameter.grad.mul_(torch.clamp(limit / norm.clamp_min(1e-12), max=1.0))


def _unit_norms(values: Tensor) -> Tensor:
    if values.ndim < 2:
        return values.abs()
    return values.square().sum(dim=tuple(range(1, values.ndim)), keepdim=True).sqrt()
