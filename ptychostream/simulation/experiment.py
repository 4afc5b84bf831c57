"""Simulate a scan: object, probe and positions in; patterns of a stated dose out."""

from collections.abc import Iterator
from functools import cached_property
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from ptychostream.errors import ConfigurationError
from ptychostream.geometry import patch_corners
from ptychostream.physics import exit_wave, fourier_shift, intensity, propagate_far_field
from ptychostream.scan import Scan, ScanMetadata
from ptychostream.simulation.objects import make_object
from ptychostream.simulation.probes import make_probe
from ptychostream.simulation.scan_patterns import make_positions

#: Pixels between the outermost patch and the object's edge.
MARGIN = 2


class SimulatedPatterns:
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
    """

    random_access = True

    def __init__(
        self,
        obj: NDArray[np.complex64],
        probe: NDArray[np.complex128],
        positions: NDArray[np.float64],
        *,
        seed: int | None,
    ) -> None:
        self._object = torch.as_tensor(obj)
        self._probe = torch.as_tensor(probe)
        self._corners, self._fractions = patch_corners(positions, probe.shape[-1])
        self._seed = seed

    @property
    def shape(self) -> tuple[int, int, int]:
        """M, N, N."""
        edge = self._probe.shape[-1]
        return len(self._corners), edge, edge

    @cached_property
    def dtype(self) -> np.dtype[Any]:
        """float32 without noise, uint32 photon counts with it."""
        return np.dtype(np.float32 if self._seed is None else np.uint32)

    def read(self, rows: NDArray[np.int64]) -> NDArray[Any]:
        """Simulate the patterns of these rows.

        Parameters
        ----------
        rows : (B,) int64
            Which patterns; each has its own noise, whatever is read with it.

        Returns
        -------
        (B, N, N) uint32 or float32
            Photon counts.
        """
        rows = np.asarray(rows, dtype=np.int64)
        out = np.empty((len(rows), *self.shape[1:]), dtype=self.dtype)
        for start in range(0, len(rows), 64):
            part = rows[start : start + 64]
            mean = intensity(propagate_far_field(self._exit_waves(part))).numpy()
            if self._seed is None:
                out[start : start + 64] = mean
            else:
                for at, (row, rate) in enumerate(zip(part, mean, strict=True), start):
                    out[at] = np.random.default_rng((self._seed, row)).poisson(rate)
        return out

    def blocks(self, length: int) -> Iterator[NDArray[Any]]:
        """Iterate over all patterns in acquisition order.

        Parameters
        ----------
        length : int
            Patterns per block.

        Yields
        ------
        (B, N, N) uint32 or float32
            A block; the last may be shorter.
        """
        for start in range(0, self.shape[0], length):
            yield self.read(np.arange(start, min(start + length, self.shape[0])))

    def mean_energy(self) -> float:
        """Mean over all positions of the expected photons in a pattern.

        Returns
        -------
        float
            By Parseval's theorem the energy of the exit waves; no noise.
        """
        rows = np.arange(self.shape[0])
        total = sum(
            float(intensity(self._exit_waves(rows[start : start + 64])).sum())
            for start in range(0, len(rows), 64)
        )
        return total / len(rows)

    def _exit_waves(self, rows: NDArray[np.int64]) -> torch.Tensor:
        edge = self.shape[1]
        patches = torch.stack(
            [
                self._object[top : top + edge, left : left + edge]
                for top, left in self._corners[rows].tolist()
            ]
        )
        shifts = torch.as_tensor(self._fractions[rows])[:, None]
        return exit_wave(patches.to(self._probe.dtype), fourier_shift(self._probe, shifts))


def simulate_scan(
    *,
    object: str | NDArray[np.complex64] = "dead_leaves",
    probe: str | NDArray[np.complex64] = "fresnel_zone_plate",
    num_positions: int = 2000,
    N: int = 64,
    scan_pattern: str = "jittered_raster",
    step: float | None = None,
    object_shape: tuple[int, int] | None = None,
    nphotons: float = 1e6,
    noise: bool = True,
    seed: int = 0,
) -> Scan:
    """Simulate a scan of a known object.

    Nothing is computed but object, probe and dose: patterns are simulated when they are read.

    Parameters
    ----------
    object : str or (H, W) complex64
        Name of an object, or its transmission.
    probe : str or (P, N, N) complex64
        Name of a probe, or the illumination; its power is set by `nphotons`.
    num_positions : int
        Positions M.
    N : int
        Edge of a pattern, in pixels.
    scan_pattern : str
        Name of a scan pattern.
    step : float, optional
        Distance of neighbouring positions, in pixels; None is N/16.
    object_shape : (int, int), optional
        Shape of the object; None is the smallest that holds the scan and a small margin.
    nphotons : float
        Photons per pattern, the mean over the scan of the expected counts.
    noise : bool
        Whether photons are counted (Poisson), or patterns hold the expected counts.
    seed : int
        Decides object, positions and noise.

    Returns
    -------
    Scan
        Counts, with the true object as object guess and the probe at its true power.

    Raises
    ------
    ConfigurationError
        If a name is unknown, a number out of range, or the object too small for the scan.

    Examples
    --------
    >>> scan = simulate_scan(num_positions=9, N=16, nphotons=1e4)
    >>> scan.patterns.shape, scan.measurement_domain
    ((9, 16, 16), 'counts')
    """
    step = N / 16 if step is None else step
    if num_positions < 1 or N < 8 or N % 2 or nphotons <= 0 or step <= 0:
        raise ConfigurationError(
            f"num_positions={num_positions}, N={N}, nphotons={nphotons:g} and step={step:g} must "
            "be positive, and N an even number of at least 8 pixels"
        )
    position_rng, object_rng = np.random.default_rng(seed).spawn(2)
    positions = make_positions(scan_pattern, num_positions, step, position_rng)
    positions += N / 2 + MARGIN
    needed = np.ceil(positions.max(axis=0)[::-1]).astype(int) + N // 2 + MARGIN
    if not isinstance(object, str):
        obj = np.asarray(object, dtype=np.complex64)
    else:
        obj = make_object(object, object_shape or (int(needed[0]), int(needed[1])), object_rng)
    if obj.ndim != 2 or (np.array(obj.shape) < needed).any():
        raise ConfigurationError(
            f"the object is {obj.shape} px but the scan needs {tuple(needed.tolist())}"
        )
    beam = make_probe(probe, N) if isinstance(probe, str) else np.asarray(probe, np.complex128)
    beam = beam.reshape(-1, *beam.shape[-2:])
    if beam.shape[-2:] != (N, N):
        raise ConfigurationError(f"the probe is {beam.shape[-2:]} px but N={N}")
    beam = beam / np.sqrt(np.sum(np.abs(beam) ** 2))
    unit = SimulatedPatterns(obj, beam, positions, seed=None)
    beam = beam * np.sqrt(nphotons / unit.mean_energy())
    description = {
        "simulated": {
            "object": object if isinstance(object, str) else "array",
            "probe": probe if isinstance(probe, str) else "array",
            "scan_pattern": scan_pattern,
            "step": step,
            "nphotons": nphotons,
            "noise": noise,
            "seed": seed,
        }
    }
    return Scan(
        name="simulated scan",
        patterns=SimulatedPatterns(obj, beam, positions, seed=seed if noise else None),
        measurement_domain="counts",
        positions=positions,
        probe=beam.astype(np.complex64),
        object_guess=obj,
        scan_index=np.arange(num_positions),
        metadata=ScanMetadata(nphotons=nphotons),
        provenance=description,
    )
