"""What PtychoPINN's TensorFlow model does otherwise: for comparisons with it, number by number."""

import torch
from torch import Tensor

from ptychostream.models.generators.autoencoder import Autoencoder
from ptychostream.models.pinn import PtychoPINN
from ptychostream.models.smoothing import gaussian_smooth
from ptychostream.patches import extract_patches, place_patches
from ptychostream.physics import exit_wave

#: Added to the number of patches on a pixel, as there.
_TINY = 1e-3


def reconstruct_upstream(
    model: PtychoPINN, diffraction: Tensor, coords_relative: Tensor
) -> tuple[Tensor, Tensor]:
    """Reconstruct and merge the patches of each group as upstream.

    Parameters
    ----------
    model : PtychoPINN
        The network.
    diffraction : (B, C, N, N) float32
        Amplitude, scaled to a mean energy of (N/2)².
    coords_relative : (B, C, 1, 2) float32
        Centre minus member (x, y), in pixels.

    Returns
    -------
    members : (B, C, N, N) complex64
        Each member's patch of the merged object.
    centred : (B, N, N) complex64
        The merged object around the group's centre.
    """
    patches = model.reconstruct(diffraction, coords_relative)
    generator = model.generator
    if isinstance(generator, Autoencoder) and not generator.object_big:
        # One patch per group, which the members are cut out of: nothing to merge.
        return patches, generator.decode(diffraction)[:, 0]
    return merge_group_upstream(patches, coords_relative)


def waves_upstream(model: PtychoPINN, patches: Tensor) -> Tensor:
    """Make the waves behind the object as upstream: smoothed first, then masked.

    Parameters
    ----------
    model : PtychoPINN
        The network; its first probe is taken.
    patches : (B, C, N, N) complex64
        Object patches.

    Returns
    -------
    (B, C, P, N, N) complex64
        Exit waves.
    """
    probe = torch.view_as_complex(model.probe.parts)[:1, None] * model.log_scale.exp()
    waves = gaussian_smooth(exit_wave(patches, probe), model.config.gaussian_smoothing_sigma)
    return waves if model.probe.mask is None else waves * model.probe.mask


def merge_group_upstream(patches: Tensor, coords_relative: Tensor) -> tuple[Tensor, Tensor]:
    """Add patches at their positions, and divide by the number of central halves on a pixel.

    The whole patches are added but only their central halves are counted, so that pixels
    beside those are far too bright, and within them off by what the borders add. `merge` is
    the average that it stands for.

    Parameters
    ----------
    patches : (B, C, N, N) complex64
        One patch per member.
    coords_relative : (B, C, 1, 2) float32
        Centre minus member (x, y), in pixels.

    Returns
    -------
    members : (B, C, N, N) complex64
        Each member's patch of the merged object.
    centred : (B, N, N) complex64
        The merged object around the group's centre.
    """
    edge = patches.shape[-1]
    displacement = -coords_relative[:, :, 0]
    reach = int(displacement.abs().amax().ceil().item()) + 1
    size = edge + 2 * reach
    centres = displacement + size // 2
    quarter = edge // 4
    half = torch.zeros(patches.shape, dtype=patches.real.dtype, device=patches.device)
    half[..., quarter : edge - quarter, quarter : edge - quarter] = 1
    total = place_patches(patches, centres, (size, size))
    cover = place_patches(half, centres, (size, size))
    merged = total / (cover + _TINY)
    members = extract_patches(merged, centres, edge)
    return members, merged[:, reach : edge + reach, reach : edge + reach]
