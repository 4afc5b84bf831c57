"""The existing backend's forward physics, number for number, for `compat="upstream"`.

Ours differs on purpose: it scales probes by their energy, cuts the illumination before it is
smoothed, adds modes incoherently, and divides a merge by what really lies on a pixel. The formulas
here are those of the contract as measured, without the existing limit on the batch size.
"""

from torch import Tensor
from torch.nn import functional

from ptychostream.patches import extract_patches, place_patches
from ptychostream.physics import propagate_far_field

#: Distance of neighbouring members and room for jitter, in pixels: what the canvas allows for.
_OFFSET, _JITTER = 4, 10

#: Added to the number of central windows that lie on a pixel.
_WINDOW_FLOOR = 1e-3


def scale_probe(probe: Tensor, mask: Tensor, probe_scale: float) -> Tensor:
    """Divide probes by `probe_scale` times the mean of their masked modulus.

    Parameters
    ----------
    probe : (..., N, N) complex
        Illumination.
    mask : (N, N) float
        Disk of diameter N/2.
    probe_scale : float
        Head-room of the object's amplitude.

    Returns
    -------
    (..., N, N) complex
        Scaled probes.
    """
    return probe / (probe_scale * (probe * mask).abs().mean(dim=(-2, -1), keepdim=True))


def merge_group(patches: Tensor, coords_relative: Tensor) -> Tensor:
    """Merge the patches of each group, and cut them out again.

    The sum of the patches is divided by the number of *central windows* (N/2 × N/2) on a pixel
    plus 0.001: outside their union it is amplified about a thousandfold.

    Parameters
    ----------
    patches : (B, C, N, N) complex64
        One patch per member; any batch size.
    coords_relative : (B, C, 1, 2) float32
        Centre minus member (x, y), in pixels.

    Returns
    -------
    (B, C, N, N) complex64
        The patches of the merged object, at the same positions.
    """
    edge = patches.shape[-1]
    gridsize = round(patches.shape[1] ** 0.5)
    size = edge + (gridsize - 1) * _OFFSET + _JITTER
    # In double precision: what is amplified must not be rounded first.
    centres = size // 2 - coords_relative[:, :, 0].double()
    window = functional.pad(patches.real.new_ones(edge // 2, edge // 2), (edge // 4,) * 4)
    windows = window.expand(patches.shape).contiguous()
    merged = place_patches(patches, centres, (size, size)) / (
        place_patches(windows, centres, (size, size)) + _WINDOW_FLOOR
    )
    return extract_patches(merged, centres, edge)


def predict_intensity(waves: Tensor, mask: Tensor | None) -> Tensor:
    """Predict diffraction from (smoothed) exit waves; modes add coherently.

    Parameters
    ----------
    waves : (..., P, N, N) complex64
        Waves behind the object.
    mask : (N, N) float32, optional
        What the waves are cut off by.

    Returns
    -------
    (..., N, N) float32
        |F Σ waves|².
    """
    if mask is not None:
        waves = waves * mask
    return propagate_far_field(waves.sum(dim=-3)).abs().square()
