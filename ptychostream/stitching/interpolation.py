"""Interpolate patches to whole pixels: the sub-pixel part of placing them."""

from typing import Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn.functional import pad

from ptychostream.geometry import patch_corners
from ptychostream.patches import share_among_pixels
from ptychostream.physics import shift_factors

Placement = Literal["fourier", "bilinear"]

#: Part of the largest singular value of a weight below which another is left out.
_NEGLIGIBLE = 1e-7


def whole_corners(
    positions: NDArray[np.float64], edge: int, placement: Placement
) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
    """Return the pixel at which each patch is placed, and the fraction that remains.

    `positions` (..., 2): patch centres (x, y), in pixels of the object array.
    `placement`: `fourier` rounds to the nearest pixel, `bilinear` to the one before.
    Returns `corners` (..., 2): row and column of the patch's first pixel.
    Returns `fractions` (..., 2): how far behind it the patch begins (x, y).
    """
    if placement == "bilinear":
        return patch_corners(positions, edge)
    first = np.asarray(positions, dtype=np.float64) - edge // 2
    whole = np.rint(first)
    return whole[..., ::-1].astype(np.int64), first - whole


def shift_to_pixels(images: Tensor, fractions: Tensor, placement: Placement) -> Tensor:
    """Shift images by a fraction of a pixel.

    In Fourier space that is exact for images that fade out towards the edges; bilinear
    interpolation blurs a little, and the images grow by one pixel.

    `images` (B, ..., n, n).
    `fractions` (B, 2): shift (x, y), in pixels.
    Returns (B, ..., n, n) or (B, ..., n + 1, n + 1): the shifted images.
    """
    inner = (1,) * (images.ndim - 3)
    x = fractions[:, 0].reshape(-1, *inner, 1, 1)
    y = fractions[:, 1].reshape(-1, *inner, 1, 1)
    if placement == "bilinear":
        return share_among_pixels(images, x, y)
    rows, columns = images.shape[-2:]
    # Axis by axis: a table of factors for both would be as large as the images.
    along_y = shift_factors(y, torch.fft.fftfreq(rows, device=images.device)[:, None])
    along_x = shift_factors(x, torch.fft.fftfreq(columns, device=images.device))
    return torch.fft.ifft2(torch.fft.fft2(images).mul_(along_y).mul_(along_x))


class ShiftedWeight:
    """One weight, shifted by many fractions of a pixel; fast for simple weights.

    A weight is a sum of products of a column and a row: a single one for a window, and some for
    a probe's intensity. Each is shifted along its own axis, and the products are made afterwards.

    `weight` (n, n).
    """

    def __init__(self, weight: Tensor, placement: Placement) -> None:
        columns, sizes, rows = torch.linalg.svd(weight.double().cpu())
        used = sizes > _NEGLIGIBLE * sizes[0]
        roots = sizes[used].sqrt()
        lines = torch.stack([columns.mT[used] * roots[:, None], rows[used] * roots[:, None]])
        lines = lines.float().to(weight.device)
        self._edge, self._placement = weight.shape[-1], placement
        self._lines = pad(lines, (1, 1)) if placement == "bilinear" else torch.fft.rfft(lines)

    def at(self, fractions: Tensor) -> Tensor:
        """Shift the weight.

        `fractions` (B, 2): shifts (x, y), in pixels.
        Returns (B, n, n) or (B, n + 1, n + 1): the weight at each.
        """
        shifts = fractions.flip(1)[:, :, None, None]
        if self._placement == "bilinear":
            # Written out, since the shift has more axes than the lines.
            lines = self._lines[..., 1:] + shifts * (self._lines[..., :-1] - self._lines[..., 1:])
        else:
            frequency = torch.fft.rfftfreq(self._edge, device=shifts.device)
            lines = torch.fft.irfft(self._lines * shift_factors(shifts, frequency), n=self._edge)
        columns, rows = lines.unbind(1)
        if columns.device.type == "cpu":
            return columns.mT @ rows
        # A device may be configured to round the factors of matrix products.
        weights = columns[:, 0, :, None] * rows[:, 0, None, :]
        for column, row in zip(columns.unbind(1)[1:], rows.unbind(1)[1:], strict=True):
            weights.addcmul_(column[:, :, None], row[:, None, :])
        return weights
