"""The illuminated-amplitude convention of PtychoPINN's own simulator, by name only.

There the amplitude that comes back beside the patterns is that of the exit wave, object times
probe, while the phase stays that of the object. Nothing else in this package uses that mixture.
"""

import numpy as np
import torch
from numpy.typing import NDArray

from ptychostream.errors import ConfigurationError
from ptychostream.physics import exit_wave, propagate_far_field
from ptychostream.simulation.checks import check_seed


def dose_scale(exit_amplitude: NDArray[np.floating], nphotons: float) -> float:
    """Find the factor that brings the mean energy of exit waves to a dose.

    `exit_amplitude` (B, N, N): amplitude of object times probe.
    """
    energy = np.square(exit_amplitude, dtype=np.float64).sum(axis=(-2, -1)).mean()
    if not energy > 0 or not nphotons > 0:
        raise ConfigurationError(
            f"nphotons={nphotons:g} and the exit waves' energy {energy:g} must be positive"
        )
    return float(np.sqrt(nphotons / energy))


def illuminate_and_diffract(
    amplitude: NDArray[np.floating],
    phase: NDArray[np.floating],
    probe: NDArray[np.complexfloating],
    *,
    nphotons: float = 1e9,
    intensity_scale: float | None = None,
    seed: int | None = None,
) -> tuple[NDArray[np.float32], NDArray[np.float32], NDArray[np.float32], float]:
    """Simulate patches in the illuminated-amplitude convention.

    `amplitude` (B, N, N): amplitude of the object's patches.
    `phase` (B, N, N): their phase, in radians.
    `probe` (N, N).
    `intensity_scale`: factor from the probe's unit to √photons; None finds it from `nphotons`.
    Returns `diffraction` (B, N, N): amplitude on the detector, divided by `intensity_scale`.
    Returns `illuminated` (B, N, N): |object · probe|, not the object's amplitude.
    Returns `phase` (B, N, N): the object's phase, as given.
    """
    amplitude, phase, probe = np.asarray(amplitude), np.asarray(phase), np.asarray(probe)
    if amplitude.shape != phase.shape or amplitude.shape[-2:] != probe.shape:
        raise ConfigurationError(
            f"amplitude {amplitude.shape}, phase {phase.shape} and probe {probe.shape} must be "
            "(B, N, N), (B, N, N) and (N, N)"
        )
    illuminated = amplitude * np.abs(probe)
    scale = dose_scale(illuminated, nphotons) if intensity_scale is None else intensity_scale
    patches = torch.as_tensor(amplitude * np.exp(1j * phase), dtype=torch.complex128)
    waves = exit_wave(patches, torch.as_tensor(probe, dtype=torch.complex128)[None])[..., 0, :, :]
    photons = scale**2 * np.square(propagate_far_field(waves).abs().numpy())
    if seed is not None:
        check_seed(seed)
        photons = np.random.default_rng(seed).poisson(photons).astype(np.float64)
    diffraction = (np.sqrt(photons) / scale).astype(np.float32)
    return diffraction, illuminated.astype(np.float32), phase.astype(np.float32), float(scale)
