"""Refine a stitched object, and the probe if asked, against all patterns, a batch at a time."""

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional

from ptychostream.geometry import ObjectGrid
from ptychostream.physics import exit_wave, fourier_shift, intensity

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
    grid : ObjectGrid
        Where it lies.
    probe : (P, N, N) complex64
        Illumination, in the unit of the amplitudes.
    good_pixels : (N, N) bool
        True where the detector can be trusted.

    Attributes
    ----------
    probe : (P, N, N) complex64
        The probe so far.

    References
    ----------
    Maiden, Johnson & Li, Optica 4 (2017) 736.
    """

    def __init__(
        self, obj: NDArray[np.complex64], grid: ObjectGrid, probe: Tensor, good_pixels: Tensor
    ) -> None:
        self._margin, self._origin = probe.shape[-1], grid.origin
        known = obj != 0
        start = np.where(known, obj, obj[known].mean() if known.any() else 1)
        canvas = torch.as_tensor(start, dtype=torch.complex64, device=probe.device)
        parts = torch.view_as_real(canvas).movedim(-1, 0)[None]
        padded = functional.pad(parts, (self._margin,) * 4, mode="replicate")[0].movedim(0, -1)
        self._shape = (padded.shape[0], padded.shape[1])
        self._canvas = torch.view_as_complex(padded.contiguous()).flatten()
        self._known = torch.as_tensor(known)
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
        with_probe : bool
            Whether the probe is corrected too.
        """
        edge = amplitude.shape[-1]
        exact = positions - edge // 2 + self._margin - np.array(self._origin)
        corners = np.clip(np.rint(exact), 0, np.array(self._shape[::-1]) - edge).astype(np.int64)
        fractions = torch.as_tensor(exact - corners, dtype=torch.float32, device=amplitude.device)
        span = torch.arange(edge, device=amplitude.device)
        first = torch.as_tensor(corners, device=amplitude.device)
        index = (first[:, 1, None, None] + span[:, None]) * self._shape[1] + (
            first[:, 0, None, None] + span
        )
        beam = fourier_shift(self.probe, fractions[:, None])
        patches = self._canvas[index]
        spectrum = torch.fft.fft2(exit_wave(patches, beam), norm="ortho")
        measured = torch.fft.ifftshift(amplitude, dim=(-2, -1))
        rate = intensity(spectrum) + 1e-12
        # Where the model sends no light yet, its phase is rounding noise and is not amplified.
        trust = self._good * rate / (rate + _DISTRUST * measured.square())
        excess = (measured * torch.rsqrt(rate) - 1) * trust
        difference = torch.fft.ifft2(excess[:, None] * spectrum, norm="ortho")
        pull = torch.zeros_like(self._canvas)
        pull.index_add_(0, index.flatten(), (beam.conj() * difference).sum(dim=1).flatten())
        light = torch.zeros_like(self._canvas.real)
        light.index_add_(0, index.flatten(), intensity(beam).flatten())
        damping = _REGULARISATION * light.max() + (1 - _REGULARISATION) * light
        self._canvas += _STEP * pull / damping
        if with_probe:
            change = fourier_shift(patches.conj()[:, None] * difference, -fractions[:, None])
            weight = patches.abs().square().sum(dim=0)
            damping = _REGULARISATION * weight.max() + (1 - _REGULARISATION) * weight
            self.probe = self.probe + _STEP * change.sum(dim=0) / damping

    def result(self) -> NDArray[np.complex64]:
        """Return the object (H, W) complex64; pixels that were unknown are zero again."""
        margin = self._margin
        inner = self._canvas.reshape(self._shape)[margin:-margin, margin:-margin].cpu()
        return np.asarray(torch.where(self._known, inner, 0).numpy())
