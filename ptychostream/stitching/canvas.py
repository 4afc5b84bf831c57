"""Sums of patches in memory, in a scratch file, or on a device."""

from pathlib import Path
from typing import Any, Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ptychostream.scratch import allocate


class Canvas(Protocol):
    """A sum of blocks of pixels; pixels outside are dropped."""

    def add(self, blocks: Tensor, corners: NDArray[np.int64]) -> None:
        """Add blocks.

        `blocks` (B, ..., h, w): blocks of pixels.
        `corners` (B, 2): row and column of each block's first pixel.
        """

    def values(self) -> NDArray[Any]:
        """Return the sum (..., H, W); a view where it lies in host memory or a file."""


class HostCanvas:
    """A sum in host memory, or in a file that the system keeps in memory as far as it fits.

    `folder`: where the file lies; None is in memory.
    """

    def __init__(self, shape: tuple[int, ...], dtype: Any, folder: Path | None = None) -> None:
        self._sum = allocate(shape, dtype, folder)

    def add(self, blocks: Tensor, corners: NDArray[np.int64]) -> None:
        """Add blocks; see `Canvas.add`."""
        total, (height, width) = self._sum, self._sum.shape[-2:]
        rows, columns = blocks.shape[-2:]
        # Slices stream through memory; index_add_ would read an index for every pixel too.
        for block, (top, left) in zip(blocks.numpy(), corners.tolist(), strict=True):
            bottom, right = top + rows, left + columns
            if top >= 0 and left >= 0 and bottom <= height and right <= width:
                total[..., top:bottom, left:right] += block
                continue
            above, before = max(-top, 0), max(-left, 0)
            below, behind = rows - max(bottom - height, 0), columns - max(right - width, 0)
            if above < below and before < behind:
                total[..., top + above : top + below, left + before : left + behind] += block[
                    ..., above:below, before:behind
                ]

    def values(self) -> NDArray[Any]:
        """Return the sum (..., H, W), a view."""
        return self._sum


class DeviceCanvas:
    """A sum in the memory of a device."""

    def __init__(self, shape: tuple[int, ...], dtype: Any, device: torch.device) -> None:
        self._shape = shape
        kind = torch.complex64 if np.issubdtype(dtype, np.complexfloating) else torch.float32
        # One more pixel receives everything that lies outside.
        pixels = shape[-2] * shape[-1] + 1
        self._sum = torch.zeros(*shape[:-2], pixels, dtype=kind, device=device)

    def add(self, blocks: Tensor, corners: NDArray[np.int64]) -> None:
        """Add blocks; see `Canvas.add`."""
        height, width = self._shape[-2:]
        first = torch.as_tensor(corners, device=blocks.device)
        rows = first[:, 0, None] + torch.arange(blocks.shape[-2], device=blocks.device)
        columns = first[:, 1, None] + torch.arange(blocks.shape[-1], device=blocks.device)
        inside = ((rows >= 0) & (rows < height))[:, :, None] & ((columns >= 0) & (columns < width))[
            :, None, :
        ]
        index = rows[:, :, None] * width + columns[:, None, :]
        index = torch.where(inside, index, height * width).flatten()
        layers = blocks.movedim(0, -3).reshape(*self._shape[:-2], -1)
        self._sum.index_add_(-1, index, layers)

    def values(self) -> NDArray[Any]:
        """Return the sum (..., H, W), a copy in host memory."""
        return self._sum[..., :-1].reshape(self._shape).cpu().numpy()
