"""A smoothness prior, and how strong the data say that it should be."""

import torch
from torch import Tensor

#: Part of the evidence's strength that is used: edges are no Gaussian field, and the evidence
#: overrates the strength by about this factor at every dose alike.
_EVIDENCE = 1 / 16

#: Edge of the grid of frequencies on which traces are taken.
_GRID = 256

#: Strength before the data have decided.
FIRST = 0.01

#: Strengths below this act on no pixel that float32 could tell.
NEGLIGIBLE = 1e-7


def roughness(height: int, width: int, device: torch.device) -> Tensor:
    """Return the squared discrete Laplacian of each frequency of a periodic image, (H, W)."""
    along = [
        2 - 2 * torch.cos(2 * torch.pi * torch.fft.fftfreq(n, device=device))
        for n in (height, width)
    ]
    return (along[0][:, None] + along[1]).square()


def laplacian(image: Tensor) -> Tensor:
    """Return the discrete Laplacian of an image inside of its edge, (H - 2, W - 2)."""
    inner = image[1:-1, 1:-1]
    return image[:-2, 1:-1] + image[2:, 1:-1] + image[1:-1, :-2] + image[1:-1, 2:] - 4 * inner


def prior_strength(strength: float, *, lit_pixels: int, rough: float) -> float:
    """Choose the strength λ of the prior λ |∇²(√L (O - 1))|² by the evidence of the data.

    MacKay's fixed point: λ is the number of unknowns that the prior determines, over their
    roughness. L is the light, so that the prior acts in units of photon noise and fades as
    1 / dose without being told the dose.

    `lit_pixels`: pixels that the scan lights well.
    `rough`: sum of |∇²(√L (O - 1))|² over the canvas.

    References
    ----------
    MacKay, Neural Computation 4 (1992) 415.
    """
    frequencies = roughness(_GRID, _GRID, torch.device("cpu"))
    determined = float((1 / (1 + strength * frequencies)).mean())
    return _EVIDENCE * lit_pixels * determined / (rough + 1e-9)
