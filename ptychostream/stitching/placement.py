"""Bring patches onto whole pixels: the sub-pixel part of placing them."""

from typing import Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

Placement = Literal["fourier", "bilinear"]


def whole_corners(
    positions: NDArray[np.float64], edge: int, placement: Placement
) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
    """Find the pixel at which each patch is put down, and what is left.

    Parameters
    ----------
    positions : (..., 2) float64
        Patch centres (x, y), in pixels of the object array.
    edge : int
        Edge of a patch.
    placement : str
        `fourier` rounds to the nearest pixel, `bilinear` to the one before.

    Returns
    -------
    corners : (..., 2) int64
        Row and column of the patch's first pixel.
    fractions : (..., 2) float64
        How far behind it the patch begins (x, y).
    """
    first = np.asarray(positions, dtype=np.float64) - edge // 2
    whole = np.rint(first) if placement == "fourier" else np.floor(first)
    return whole[..., ::-1].astype(np.int64), first - whole


def shift_to_pixels(images: Tensor, fractions: Tensor, placement: Placement) -> Tensor:
    """Shift images by a fraction of a pixel.

    In Fourier space that is exact for what fades out towards the edges; between two pixels,
    bilinear (barycentric) shares blur a little, and the images grow by one pixel.

    Parameters
    ----------
    images : (B, ..., n, n) complex64 or float32, or (n, n) float32
        What is shifted; one real image is shifted by all fractions. Complex ones may be
        overwritten.
    fractions : (B, 2) float32
        Shift (x, y), in pixels.
    placement : str
        How.

    Returns
    -------
    (B, ..., n, n) or (B, ..., n + 1, n + 1)
        The shifted images, of the same kind.
    """
    inner = (1,) * max(images.ndim - 3, 0)
    x = fractions[:, 0].reshape(-1, *inner, 1, 1)
    y = fractions[:, 1].reshape(-1, *inner, 1, 1)
    if placement == "bilinear":
        upper, lower = (1 - y) * images, y * images
        edge = images.shape[-1]
        spread = images.new_zeros(*upper.shape[:-2], edge + 1, edge + 1)
        spread[..., :-1, :-1] += (1 - x) * upper
        spread[..., :-1, 1:] += x * upper
        spread[..., 1:, :-1] += (1 - x) * lower
        spread[..., 1:, 1:] += x * lower
        return spread
    rows, columns = images.shape[-2:]
    # Axis by axis: a table of factors for both would be as large as the images.
    along_y = _turns(y, torch.fft.fftfreq(rows, device=images.device)[:, None])
    if images.is_complex():
        along_x = _turns(x, torch.fft.fftfreq(columns, device=images.device))
        return torch.fft.ifft2(torch.fft.fft2(images).mul_(along_y).mul_(along_x))
    along_x = _turns(x, torch.fft.rfftfreq(columns, device=images.device))
    return torch.fft.irfft2(torch.fft.rfft2(images) * along_y * along_x, s=(rows, columns))


def _turns(shift: Tensor, frequency: Tensor) -> Tensor:
    angle = -2 * torch.pi * shift * frequency
    return torch.polar(torch.ones_like(angle), angle)
