"""Patterns that are computed when they are read."""

import os
from collections import deque
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from functools import cached_property
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from typing_extensions import override

from ptychostream.errors import ConfigurationError
from ptychostream.geometry import patch_corners
from ptychostream.scan import PatternSource
from ptychostream.simulation.detector import DetectorPixels

#: Waves that are propagated together. Sixteen of 64 x 64 px stay in a core's cache, which makes
#: the simulation twice as fast as 64 of them do; a GPU needs more to be busy.
_BLOCK = {"cpu": 16, "gpu": 256}


class SimulatedPatterns(PatternSource):
    """Patterns that are computed when they are read, so that a scan may exceed memory.

    Between pixels the probe is shifted, not the object: the probe fades towards its edges,
    so a Fourier shift is exact, whatever the object holds. Waves are complex64: the error of a
    pixel's amplitude is some 1e-7 of the pattern's root mean square.

    `obj` (H, W): the true object.
    `probe` (P, N, N): illumination whose power is the dose.
    `positions` (M, 2): patch centres (x, y) in pixels.
    `seed`: seed of the photon noise; None is noise-free.
    `device`: where waves are computed, as torch names it; photons are counted on the CPU, on as
        many threads as there are cores.
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
        edge = probe.shape[-1]
        # A chessboard of signs moves the zero frequency to the middle, as `fftshift` would, at
        # no cost: where a patch begins changes its sign as a whole, which no detector sees.
        signs = [1 - 2 * (np.arange(length) % 2) for length in obj.shape]
        chessboard = np.multiply.outer(*signs).astype(np.int8)
        try:
            target = torch.as_tensor(obj * chessboard, dtype=torch.complex64, device=device)
        except (RuntimeError, AssertionError) as error:
            raise ConfigurationError(f"device={device!r} can't be used: {error}") from error
        self._device = target.device
        # Every stretch of N pixels along a row, as a view: patches are N of them.
        self._stretches = target.flatten().unfold(0, edge, 1)
        self._spectrum = torch.fft.fft2(torch.as_tensor(probe, device=self._device)).to(
            torch.complex64
        )
        self._corners, self._fractions = patch_corners(positions, edge)
        self._width = obj.shape[1]
        self._seed, self._pixels = seed, pixels
        self._block = _BLOCK["cpu" if self._device.type == "cpu" else "gpu"]

    @property
    @override
    def shape(self) -> tuple[int, int, int]:
        edge = self._spectrum.shape[-1]
        return len(self._corners), edge, edge

    @cached_property
    @override
    def dtype(self) -> np.dtype[Any]:
        return np.dtype(np.float32) if self._seed is None else self._pixels.detector.dtype

    @override
    def read(self, rows: NDArray[np.int64]) -> NDArray[Any]:
        rows = np.asarray(rows, dtype=np.int64)
        out = np.empty((len(rows), *self.shape[1:]), dtype=self.dtype)
        if self._seed is None or len(rows) <= self._block:
            for part, photons in self._photons(rows):
                self._detect(rows[part], photons, out[part])
            return out
        # Drawing photons takes several times as long as the waves, and NumPy lets other threads
        # run meanwhile. Each pattern has its own generator: threads change only the time.
        threads = os.cpu_count() or 1
        with ThreadPoolExecutor(threads) as pool:
            running: deque[Future[None]] = deque()
            for part, photons in self._photons(rows):
                running.append(pool.submit(self._detect, rows[part], photons, out[part]))
                if len(running) > 2 * threads:  # bounds the waves that wait to be counted
                    running.popleft().result()
            for task in running:
                task.result()
        return out

    def mean_power(self) -> float:
        """Return the mean power of the exit waves: by Parseval, the photons of a pattern."""
        rows = np.arange(self.shape[0])
        parts = [
            torch.view_as_real(wave).square_().sum(dtype=torch.float64)
            for _, wave in self._exit_waves(rows)
        ]
        return float(torch.stack(parts).sum()) / len(rows)

    def _detect(
        self, rows: NDArray[np.int64], photons: NDArray[np.float32], out: NDArray[Any]
    ) -> None:
        """Count the photons of some patterns with the detector."""
        mean = self._pixels.expected_counts(photons)
        if self._seed is None:
            self._pixels.show(mean, out)
            return
        for row, rate, counts in zip(rows, mean, out, strict=True):
            rng = np.random.default_rng((self._seed, row))
            self._pixels.show(rng.poisson(rate), counts)

    def _photons(self, rows: NDArray[np.int64]) -> Iterator[tuple[slice, NDArray[np.float32]]]:
        """Propagate to the detector, block by block."""
        for part, wave in self._exit_waves(rows):
            squares = torch.view_as_real(torch.fft.fft2(wave, norm="ortho")).square_()
            # Adding modes one by one is faster by far than sums over short axes.
            photons = squares[:, 0, ..., 0] + squares[:, 0, ..., 1]
            for mode in range(1, squares.shape[1]):
                photons += squares[:, mode, ..., 0]
                photons += squares[:, mode, ..., 1]
            yield part, photons.cpu().numpy()

    def _exit_waves(self, rows: NDArray[np.int64]) -> Iterator[tuple[slice, torch.Tensor]]:
        """Illuminate the object block by block: shift the probe, cut patches, multiply."""
        edge = self.shape[1]
        lines = torch.arange(edge, device=self._device)
        for start in range(0, len(rows), self._block):
            part = slice(start, start + self._block)
            along_x, along_y = self._shift_factors(rows[part]).unbind(1)
            ramped = self._spectrum * along_y[:, None, :, None]
            wave = torch.fft.ifft2(ramped.mul_(along_x[:, None, None, :]))
            corners = torch.as_tensor(self._corners[rows[part]], device=self._device)
            first = (corners[:, :1] + lines) * self._width + corners[:, 1:]
            patches = self._stretches.index_select(0, first.flatten())
            yield part, wave.mul_(patches.view(-1, 1, edge, edge))

    def _shift_factors(self, rows: NDArray[np.int64]) -> torch.Tensor:
        """Find the factors of `physics.fourier_shift`, (B, 2, N) along x and y."""
        shifts = torch.as_tensor(self._fractions[rows], device=self._device)
        frequency = torch.fft.fftfreq(self.shape[1], dtype=shifts.dtype, device=self._device)
        turns = (-2 * torch.pi * shifts[..., None] * frequency).float()
        return torch.complex(turns.cos(), turns.sin())
