"""How large the canvases of groups must be: known beforehand, or found by asking the device.

Sizes of arrays are decided by the host. To look them up in a tensor it would wait for all that the
device still has to do, so that training says once what holds for all of its batches.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import NamedTuple

import torch
from torch import Tensor


class Extent(NamedTuple):
    """What decides the size of a group's canvas.

    Attributes
    ----------
    reach : int
        Pixels along an axis by which no member lies farther from its group's centre.
    lit : int
        Half edge, in pixels, of the central window of a patch outside which no probe lights it.
    """

    reach: int
    lit: int


#: Light, relative to the brightest pixel of a canvas, below which a pixel counts as dark.
UNLIT = 1e-3

_known: ContextVar[Extent | None] = ContextVar("extent", default=None)


@contextmanager
def canvas_size(extent: Extent | None) -> Iterator[None]:
    """Say what holds for the batches that are computed meanwhile, in this thread."""
    token = _known.set(extent)
    try:
        yield
    finally:
        _known.reset(token)


def canvas_reach(displacement: Tensor) -> int:
    """Find how far members lie from the centres of their groups.

    Parameters
    ----------
    displacement : (B, C, 2) float32
        Member minus centre (x, y), in pixels.
    """
    extent = _known.get()
    return int(displacement.abs().amax().ceil().item()) if extent is None else extent.reach


def support_of(light: Tensor, members: int) -> int:
    """Find the part of a patch that probes light.

    Parameters
    ----------
    light : (B, N, N) float32
        Intensity of the probes.
    members : int
        Patterns of a group, C, which all shine on its canvas.

    Returns
    -------
    int
        Half edge of the central window that holds all lit pixels; N/2 where there is no light.
    """
    extent = _known.get()
    return support_half_width(light, members) if extent is None else extent.lit


def support_half_width(light: Tensor, members: int) -> int:
    """Measure the part of a patch that probes light; the host waits for the device.

    Parameters
    ----------
    light : (B, N, N) float32
        Intensity of the probes.
    """
    middle = light.shape[-1] // 2
    lit = (light > members * UNLIT * light.amax(dim=(-2, -1), keepdim=True)).any(dim=0)
    along = torch.nonzero(lit.any(dim=0) | lit.any(dim=1)).flatten()
    if not len(along):
        # Not a number anywhere: nothing to find, and not for this function to report.
        return middle
    return min(max(middle - int(along[0]), int(along[-1]) + 1 - middle), middle)
