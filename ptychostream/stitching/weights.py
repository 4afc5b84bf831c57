"""The weight of each pixel of a patch."""

from typing import Literal, get_args

import torch
from torch import Tensor

from ptychostream.errors import ConfigurationError
from ptychostream.physics import support_half_width

WeightName = Literal["probe", "uniform"]

#: Part of the probe's power that marks the area in which a patch covers the object.
COVERING_POWER = 0.9

#: Pixels over which a window fades out, where patches are shifted in Fourier space.
_FADE = 4


def patch_weight(
    weight: WeightName | Tensor, light: Tensor, *, window: int = 0, fades: bool = True
) -> Tensor:
    """Make the weight of a patch's pixels.

    `weight`: `probe` is the probe's intensity, `uniform` the same for all pixels; or weights of
        your own, none negative.
    `light` (N, N): the probe's intensity.
    `window`: edge of the middle of the patch, outside which the weight is zero, in pixels; 0 is the
        whole patch.
    `fades`: whether hard edges are made soft, over a few pixels, as a shift in Fourier space needs.
    Returns (N, N): at most one.
    """
    edge = light.shape[-1]
    if isinstance(weight, Tensor):
        chosen = weight.to(light)
        if chosen.shape != light.shape or not (chosen >= 0).all() or not chosen.any():
            raise ConfigurationError(
                f"the weight is {tuple(chosen.shape)}, from {float(chosen.min()):g}; it must be "
                f"{tuple(light.shape)}, none negative and not all zero"
            )
    elif weight not in get_args(WeightName):
        raise ConfigurationError(f"weight={weight!r} is unknown; there are {get_args(WeightName)}")
    else:
        chosen = {"probe": light, "uniform": torch.ones_like(light)}[weight]
    if window and (not 2 <= window <= edge or window % 2):
        raise ConfigurationError(
            f"a central window of {window} px must be an even number in 2 … {edge}"
        )
    if window or (isinstance(weight, str) and weight == "uniform"):
        along = _window(edge, window or edge, _FADE if fades else 0).to(light)
        chosen = chosen * along[:, None] * along
    return chosen / chosen.max()


def _window(edge: int, window: int, fade: int) -> Tensor:
    """One inside the central window, zero outside; half a cosine between them."""
    fade = min(fade, window // 4)
    along = torch.zeros(edge)
    inside = torch.ones(window)
    if fade:
        ramp = torch.sin(torch.pi / 2 * (torch.arange(fade) + 0.5) / fade).square()
        inside[:fade], inside[-fade:] = ramp, ramp.flip(0)
    first = edge // 2 - window // 2
    along[first : first + window] = inside
    return along


def support_window(weight: Tensor) -> slice:
    """Find the central part of a patch, along both axes, that holds all pixels with weight.

    `weight` (N, N): at most one.
    Returns a multiple of 8 pixels, whose Fourier transforms are fast, with pixel N/2 in their
        middle; or the whole patch.
    """
    edge, half = weight.shape[-1], support_half_width(weight)
    middle, half = edge // 2, half + -half % 4
    return slice(max(middle - half, 0), min(middle + half, edge))


def covering_area(weight: Tensor) -> Tensor:
    """Mark the smallest area that takes `COVERING_POWER` of a weight.

    `weight` (N, N).
    Returns (N, N): one inside, zero outside.
    """
    ordered = weight.flatten().sort(descending=True).values
    needed = torch.searchsorted(ordered.cumsum(0), COVERING_POWER * ordered.sum())
    return (weight >= ordered[min(int(needed), len(ordered) - 1)]).float()
