"""Sums of weighted patches, and of their weights, on the pixels of an object."""

from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ptychostream.errors import ConfigurationError
from ptychostream.physics import UNLIT
from ptychostream.scratch import allocate
from ptychostream.stitching.canvas import Canvas, DeviceCanvas, HostCanvas

#: Rows of the object that are normalised at once.
_BAND = 1024


class WeightedSum:
    """Blocks of pixels and the weights that they carry, added up apart; their ratio is the mean.

    `shape` (int, ...): layers, if there are any, and height and width of the object.
    `folder`: where the sums lie in files; None is in memory.
    `keeps_halves`: whether the sums of one half of the groups are kept apart too, for `halves`.
    """

    def __init__(
        self,
        shape: tuple[int, ...],
        device: torch.device,
        *,
        folder: Path | None = None,
        keeps_halves: bool = False,
    ) -> None:
        self._shape, self._device, self._folder = shape, device, folder
        self._total, self._cover = self._canvases()
        self._half = self._canvases() if keeps_halves else None

    def _canvases(self) -> tuple[Canvas, Canvas]:
        return self._canvas(self._shape, np.complex64), self._canvas(self._shape[-2:], np.float32)

    def _canvas(self, shape: tuple[int, ...], dtype: Any) -> Canvas:
        if self._device.type == "cpu":
            return HostCanvas(shape, dtype, self._folder)
        return DeviceCanvas(shape, dtype, self._device)

    def add_blocks(
        self, blocks: Tensor, corners: NDArray[np.int64], in_half: NDArray[np.bool_]
    ) -> None:
        """Add weighted blocks (K, ..., h, w), of which some are in the first half."""
        self._total.add(blocks, corners)
        if self._half is not None and in_half.any():
            mine = torch.as_tensor(in_half, device=blocks.device)
            self._half[0].add(blocks[mine], corners[in_half])

    def add_weights(self, weights: Tensor, corners: NDArray[np.int64], *, in_half: bool) -> None:
        """Add the weights (K, h, w) of patches, all in the first half or none."""
        self._cover.add(weights, corners)
        if in_half and self._half is not None:
            self._half[1].add(weights, corners)

    def values(self) -> tuple[NDArray[np.complex64], NDArray[np.float32]]:
        """Return the sum of weighted blocks (..., H, W), and that of the weights (H, W)."""
        return self._total.values(), self._cover.values()

    def mean(self) -> NDArray[np.complex64]:
        """Return the weighted mean (..., H, W); zero where there is no weight."""
        total, cover = self.values()
        mean = allocate(total.shape, np.complex64, self._folder)
        # In bands: with files, no more than a band need be in memory.
        for start in range(0, total.shape[-2], _BAND):
            band = (..., slice(start, start + _BAND), slice(None))
            known = cover[band[1:]] > UNLIT
            np.divide(total[band], cover[band[1:]], out=mean[band], where=known)
        return mean

    def halves(self) -> tuple[NDArray[np.complex64], NDArray[np.complex64], NDArray[np.bool_]]:
        """Return the means of both halves, and where both have weight."""
        if self._half is None:
            raise ConfigurationError("the halves of this object were not kept: keeps_halves=True")
        total, cover = self.values()
        half_total, half_cover = self._half[0].values(), self._half[1].values()
        known = (half_cover > UNLIT) & (cover - half_cover > UNLIT)
        first, second = np.zeros_like(half_total), total - half_total
        np.divide(half_total, half_cover, out=first, where=known)
        np.divide(second, cover - half_cover, out=second, where=known)
        second *= known
        return first, second, known
