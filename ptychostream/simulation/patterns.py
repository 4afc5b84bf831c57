"""Patterns that are computed when they are read."""

from functools import cached_property
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from ptychostream.errors import ConfigurationError
from ptychostream.geometry import patch_corners
from ptychostream.physics import exit_wave, intensity, propagate_far_field
from ptychostream.scan import PatternSource
from ptychostream.simulation.detector import DetectorPixels

#: Waves that are propagated together. Eight of 64 x 64 px stay in a core's cache, which makes
#: the simulation twice as fast as 64 of them do; a GPU needs more to be busy.
_BLOCK = {"cpu": 8, "gpu": 256}


class SimulatedPatterns(PatternSource):
    """Patterns that are computed when they are read, so that a scan may exceed memory.

    Between pixels the probe is shifted, not the object: the probe fades towards its edges,
    so a Fourier shift is exact, whatever the object holds.

    Parameters
    ----------
    obj : (H, W) complex64
        The true object.
    probe : (P, N, N) complex128
        Illumination whose power is the dose.
    positions : (M, 2) float64
        Patch centres (x, y) in pixels.
    seed : int, optional
        Seed of the photon noise; None is noise-free.
    pixels : DetectorPixels
        The detector.
    device : str
        Where waves are computed, as torch names it; photons are counted on the CPU.

    Raises
    ------
    ConfigurationError
        If there is no such device.
    """

    def __init__(
        self,
        obj: NDArray[np.complex64],
        probe: NDArray[np.complex128],
        positions: NDArray[np.float64],
        *,
        seed: int | None,
        pixels: DetectorPixels,
        device: str = "cpu",
    ) -> None:
        try:
            self._object = torch.as_tensor(obj, device=device)
        except (RuntimeError, AssertionError) as error:
            raise ConfigurationError(f"device={device!r} can't be used: {error}") from error
        self._device = self._object.device
        self._spectrum = torch.fft.fft2(torch.as_tensor(probe, device=self._device))
        self._frequency = torch.fft.fftfreq(
            probe.shape[-1], dtype=torch.float64, device=self._device
        )
        self._corners, self._fractions = patch_corners(positions, probe.shape[-1])
        self._seed, self._pixels = seed, pixels
        self._block = _BLOCK["cpu" if self._device.type == "cpu" else "gpu"]

    @property
    def shape(self) -> tuple[int, int, int]:
        """M, N, N."""
        edge = self._spectrum.shape[-1]
        return len(self._corners), edge, edge

    @cached_property
    def dtype(self) -> np.dtype[Any]:
        """float32 without noise; with it, as wide as the detector's counter: uint32 or less."""
        return np.dtype(np.float32) if self._seed is None else self._pixels.detector.dtype

    def read(self, rows: NDArray[np.int64]) -> NDArray[Any]:
        """Simulate the patterns of these rows.

        Parameters
        ----------
        rows : (B,) int64
            Which patterns; each has its own noise, whatever is read with it.

        Returns
        -------
        (B, N, N) unsigned integer or float32
            Photon counts.
        """
        rows = np.asarray(rows, dtype=np.int64)
        out = np.empty((len(rows), *self.shape[1:]), dtype=self.dtype)
        for start in range(0, len(rows), self._block):
            part = rows[start : start + self._block]
            mean = intensity(propagate_far_field(self._exit_waves(part))).cpu().numpy()
            mean = self._pixels.expected_counts(mean)
            if self._seed is None:
                out[start : start + self._block] = self._pixels.cut(mean)
                continue
            for at, (row, rate) in enumerate(zip(part, mean, strict=True), start):
                rng = np.random.default_rng((self._seed, row))
                out[at] = self._pixels.cut(rng.poisson(rate))
        return out

    def mean_energy(self) -> float:
        """Mean over all positions of the photons that reach the detector in a pattern.

        Returns
        -------
        float
            By Parseval's theorem the energy of the exit waves; no noise, and no detector.
        """
        rows = np.arange(self.shape[0])
        total = sum(
            float(intensity(self._exit_waves(rows[start : start + self._block])).sum())
            for start in range(0, len(rows), self._block)
        )
        return total / len(rows)

    def _exit_waves(self, rows: NDArray[np.int64]) -> torch.Tensor:
        edge = self.shape[1]
        top, left = torch.as_tensor(self._corners[rows], device=self._device).unbind(-1)
        patches = self._object.unfold(0, edge, 1).unfold(1, edge, 1)[top, left]
        return exit_wave(patches.to(self._spectrum.dtype), self._shifted_probes(rows))

    def _shifted_probes(self, rows: NDArray[np.int64]) -> torch.Tensor:
        """Shift the probe as `fourier_shift` does, transforming it once for all patterns."""
        shifts = torch.as_tensor(self._fractions[rows], device=self._device)
        turns = -2 * torch.pi * shifts[..., None] * self._frequency
        along_x, along_y = torch.polar(torch.ones_like(turns), turns).unbind(1)
        ramped = self._spectrum * along_y[:, None, :, None]
        return torch.fft.ifft2(ramped.mul_(along_x[:, None, None, :]))
