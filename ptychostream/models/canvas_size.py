"""The size of the canvases of groups.

The host decides the sizes of arrays. To look them up in a tensor it waits for all that the device
still has to do, so training measures them once, for all of its batches.
"""

from typing import NamedTuple

from torch import Tensor

from ptychostream.physics import UNLIT, support_half_width


class CanvasSize(NamedTuple):
    """What decides the size of a group's canvas.

    `reach`: largest distance of a member from its group's mean position along an axis, in pixels.
    `support`: half edge, in pixels, of the central window of a patch outside which no probe lights
        it.
    """

    reach: int
    support: int


def measure_canvas_size(coords_relative: Tensor, light: Tensor) -> CanvasSize:
    """Measure the canvas size of a batch; the host waits for the device.

    `coords_relative` (B, C, 1, 2): mean minus member (x, y), in pixels.
    `light` (B, N, N): intensity of the probes.
    """
    members = coords_relative.shape[1]
    return CanvasSize(canvas_reach(coords_relative), canvas_support(light, members))


def canvas_reach(coords_relative: Tensor) -> int:
    """Measure how far members (..., 2) lie from the means of their groups, in pixels."""
    return int(coords_relative.abs().amax().ceil().item())


def canvas_support(light: Tensor, members: int) -> int:
    """Measure the support of patches (B, N, N) of groups with so many members."""
    # The light of all members adds up on one canvas: its brightest pixel may be C times as bright.
    return support_half_width(light, members * UNLIT)
