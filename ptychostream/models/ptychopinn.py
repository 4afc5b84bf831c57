"""PtychoPINN's forward physics, number for number, for `compat="upstream"`.

Ours differs on purpose: it scales probes by their power, masks the probe before smoothing, adds
modes incoherently, and divides a merge by the sum of its weights. The formulas here give the
numbers of PtychoPINN as measured, for any batch size.
"""

import torch
from torch import Tensor
from torch.nn import functional

from ptychostream.patches import extract_patches, place_patches
from ptychostream.physics import propagate_far_field

#: Added to the number of central windows that lie on a pixel.
_WINDOW_FLOOR = 1e-3


def scale_probe(probe: Tensor, mask: Tensor, probe_scale: float) -> Tensor:
    """Divide probes by `probe_scale` times the mean of their masked modulus.

    `probe` (..., N, N).
    `mask` (N, N): disk of diameter N/2.
    Returns (..., N, N).
    """
    return probe / (probe_scale * (probe * mask).abs().mean(dim=(-2, -1), keepdim=True))


def merge_group(
    patches: Tensor, coords_relative: Tensor, canvas: int | None = None
) -> tuple[Tensor, Tensor]:
    """Merge the patches of each group, and cut them out again.

    The sum of the patches is divided by the number of their *central windows* (N/2 × N/2) on a
    pixel plus 0.001: outside the windows' union it is amplified about a thousandfold, and inside
    the borders of other patches are added without being counted. `merge` is the plain average.

    `patches` (B, C, N, N): one patch per member; any batch size.
    `coords_relative` (B, C, 1, 2): centre minus member (x, y), in pixels.
    `canvas`: edge of the canvas, in pixels, which what lies outside is lost from, as in PtychoPINN;
        None is as large as the groups need.
    Returns `members` (B, C, N, N): each member's patch of the merged object.
    Returns `centred` (B, N, N): the merged object around the group's centre.
    """
    edge = patches.shape[-1]
    # In double precision, where available, since rounding errors would be amplified.
    precise = torch.float32 if coords_relative.device.type == "mps" else torch.float64
    displacement = -coords_relative[:, :, 0].to(precise)
    if canvas is None:
        canvas = edge + 2 * (int(displacement.abs().amax().ceil().item()) + 1)
    reach = (canvas - edge) // 2
    size = edge + 2 * reach
    centres = displacement + size // 2
    window = functional.pad(patches.real.new_ones(edge // 2, edge // 2), (edge // 4,) * 4)
    windows = window.expand(patches.shape).contiguous()
    merged = place_patches(patches, centres, (size, size)) / (
        place_patches(windows, centres, (size, size)) + _WINDOW_FLOOR
    )
    members = extract_patches(merged, centres, edge)
    return members, merged[:, reach : edge + reach, reach : edge + reach]


def predict_intensity(waves: Tensor, mask: Tensor | None) -> Tensor:
    """Predict diffraction from (smoothed) exit waves; modes add coherently.

    `waves` (..., P, N, N): waves behind the object.
    `mask` (N, N): mask of the waves.
    Returns (..., N, N): |F Σ waves|².
    """
    if mask is not None:
        waves = waves * mask
    return propagate_far_field(waves.sum(dim=-3)).abs().square()
