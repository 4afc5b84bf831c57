"""Refine a stitched object, and the probe if asked, against all patterns, a batch at a time."""

from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ptychostream.geometry import ObjectGrid
from ptychostream.physics import exit_wave, fourier_shift, intensity
from ptychostream.stitching.canvas import allocate

#: Length of a step, and how much weakly lit pixels are held back.
_STEP, _REGULARISATION = 0.7, 0.1

#: Part of the measured intensity that the model must send to a pixel to be trusted there.
_DISTRUST = 0.2


class ObjectRefinement:
    """Data-consistency updates of a whole object and its probe, from any batches of patterns.

    Each update brings the modulus of the predicted waves to the measured amplitudes; patches
    are cut at whole pixels and the probe is shifted by the rest, so that nothing is blurred.

    Parameters
    ----------
    obj : (H, W) complex64
        The stitched object; pixels that are zero begin at the mean of the others.
    probe : (P, N, N) complex64
        Illumination, in the unit of the amplitudes.
    good_pixels : (N, N) bool
        True where the detector can be trusted.
    scratch_folder : Path, optional
        Where the object lies in a file, if it is larger than the memory; None is in memory.

    Attributes
    ----------
    probe : (P, N, N) complex64
        The probe so far.

    References
    ----------
    Maiden, Johnson & Li, Optica 4 (2017) 736.
    """

    def __init__(
        self,
        obj: NDArray[np.complex64],
        grid: ObjectGrid,
        probe: Tensor,
        good_pixels: Tensor,
        *,
        scratch_folder: Path | None = None,
    ) -> None:
        margin, (height, width) = probe.shape[-1], obj.shape
        self._margin, self._origin = margin, grid.origin
        self._known, self._folder = obj != 0, scratch_folder
        canvas = allocate((height + 2 * margin, width + 2 * margin), np.complex64, scratch_folder)
        mean = obj[self._known].mean() if self._known.any() else 1
        rows, columns = slice(margin, margin + height), slice(margin, margin + width)
        canvas[rows, columns] = np.where(self._known, obj, mean)
        # What lies beyond the object is like its edge.
        canvas[:margin, columns] = canvas[margin, columns]
        canvas[-margin:, columns] = canvas[margin + height - 1, columns]
        canvas[:, :margin] = canvas[:, margin, None]
        canvas[:, -margin:] = canvas[:, margin + width - 1, None]
        self._canvas = torch.from_numpy(canvas).to(probe.device)
        self.probe = probe
        self._good = torch.fft.ifftshift(good_pixels, dim=(-2, -1))

    @torch.no_grad()
    def update(
        self, amplitude: Tensor, positions: NDArray[np.float64], *, with_probe: bool = False
    ) -> None:
        """Make the object agree better with a batch of patterns.

        Parameters
        ----------
        amplitude : (B, N, N) float32
            Measured amplitude, zero frequency centred, in the probe's unit.
        positions : (B, 2) float64
            Scan positions (x, y), in pixels.
        """
        edge = amplitude.shape[-1]
        exact = positions - edge // 2 + self._margin - np.array(self._origin)
        limits = np.array(self._canvas.shape[::-1]) - edge
        corners = np.clip(np.rint(exact), 0, limits).astype(np.int64)
        fractions = torch.as_tensor(exact - corners, dtype=torch.float32, device=amplitude.device)
        # Only the part of the object under this batch is touched: scans may be far larger.
        left, top = corners.min(axis=0)
        right, bottom = corners.max(axis=0) + edge
        part = self._canvas[top:bottom, left:right]
        canvas = part.flatten()
        span = torch.arange(edge, device=amplitude.device)
        first = torch.as_tensor(corners - (left, top), device=amplitude.device)
        index = (first[:, 1, None, None] + span[:, None]) * part.shape[1] + (
            first[:, 0, None, None] + span
        )
        beam = fourier_shift(self.probe, fractions[:, None])
        patches = canvas[index]
        spectrum = torch.fft.fft2(exit_wave(patches, beam), norm="ortho")
        measured = torch.fft.ifftshift(amplitude, dim=(-2, -1))
        rate = intensity(spectrum) + 1e-12
        # Where the model sends no light yet, its phase is rounding noise and is not amplified.
        trust = self._good * rate / (rate + _DISTRUST * measured.square())
        excess = (measured * torch.rsqrt(rate) - 1) * trust
        difference = torch.fft.ifft2(excess[:, None] * spectrum, norm="ortho")
        pull = torch.zeros_like(canvas)
        pull.index_add_(0, index.flatten(), (beam.conj() * difference).sum(dim=1).flatten())
        light = torch.zeros_like(canvas.real)
        light.index_add_(0, index.flatten(), intensity(beam).flatten())
        damping = _REGULARISATION * light.max() + (1 - _REGULARISATION) * light
        part += (_STEP * pull / damping).reshape(part.shape)
        if with_probe:
            change = fourier_shift(patches.conj()[:, None] * difference, -fractions[:, None])
            weight = patches.abs().square().sum(dim=0)
            damping = _REGULARISATION * weight.max() + (1 - _REGULARISATION) * weight
            self.probe = self.probe + _STEP * change.sum(dim=0) / damping

    def result(self) -> NDArray[np.complex64]:
        """Return the object (H, W) complex64; pixels that were unknown are zero again."""
        margin = self._margin
        inner = self._canvas[margin:-margin, margin:-margin].cpu().numpy()
        result = allocate(inner.shape, np.complex64, self._folder)
        np.copyto(result, inner, where=self._known)
        return result
