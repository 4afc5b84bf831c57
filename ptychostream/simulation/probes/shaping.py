"""Change any probe: fade its edge, split it into modes, measure its width."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from ptychostream.errors import ConfigurationError
from ptychostream.simulation.probes.shapes import squared_radius


def apodise(probe: NDArray[np.complex128], fraction: float) -> NDArray[np.complex128]:
    """Multiply a probe by a window that falls to zero at the patch's edge.

    A probe that does not fade by itself would wrap around when it is shifted by a fraction of a
    pixel.

    `probe` (P, N, N).
    `fraction`: part of the half edge over which a raised cosine falls: 0 leaves the probe, 1 is a
        Hann window.
    """
    if not 0 <= fraction <= 1:
        raise ConfigurationError(f"apodisation={fraction} must be from 0 to 1")
    if fraction == 0:
        return probe
    edge = probe.shape[-1]
    distance = np.abs(np.arange(edge) - edge / 2) / (edge / 2)
    depth = np.clip((distance - (1 - fraction)) / fraction, 0, 1)
    window = 0.5 + 0.5 * np.cos(np.pi * depth)
    return np.asarray(probe * window[:, None] * window)


def incoherent_modes(
    probe: NDArray[np.complex128], powers: Sequence[float]
) -> NDArray[np.complex128]:
    """Make a probe partially coherent: orthogonal modes, each with its share of the power.

    A single probe is multiplied by 1, x, y, x², xy, y², ... before the modes are made
    orthogonal, so that a Gaussian beam becomes its Hermite-Gauss modes, the eigenmodes of a
    partially coherent Gaussian beam.

    `probe` (P, N, N): one mode, from which the others are made; or as many as there are powers.
    """
    shares = np.asarray(powers, dtype=np.float64)
    if shares.ndim != 1 or not len(shares) or not (np.isfinite(shares) & (shares > 0)).all():
        raise ConfigurationError(f"mode_powers={list(powers)} must be numbers above zero")
    if len(probe) not in (1, len(shares)):
        raise ConfigurationError(
            f"the probe has {len(probe)} modes but mode_powers has {len(shares)}; give a probe of "
            "one mode, or as many powers as modes"
        )
    modes = _hermite_like(probe[0], len(shares)) if len(probe) == 1 else probe
    basis, triangle = np.linalg.qr(modes.reshape(len(shares), -1).T)
    if np.abs(np.diag(triangle)).min() < 1e-9 * np.abs(np.diag(triangle)).max():
        raise ConfigurationError("the probe's modes are not independent of one another")
    # QR leaves each mode's global phase open; this keeps that of the input.
    basis = basis * np.exp(1j * np.angle(np.diag(triangle)))
    ordered = (basis * np.sqrt(shares / shares.sum())).T
    return np.asarray(ordered.reshape(-1, *probe.shape[1:]))


def _hermite_like(probe: NDArray[np.complex128], number: int) -> NDArray[np.complex128]:
    edge = probe.shape[-1]
    along = np.arange(edge) - edge / 2
    power = np.abs(probe) ** 2
    width = np.sqrt(np.sum(power * squared_radius(edge)) / np.sum(power))
    modes: list[NDArray[np.complex128]] = []
    order = 0
    while len(modes) < number:
        for down in range(order + 1):
            shape = (along[None, :] / width) ** (order - down) * (along[:, None] / width) ** down
            modes.append(probe * shape)
        order += 1
    return np.stack(modes[:number])


def effective_diameter(probe: NDArray[np.complex128]) -> float:
    """Diameter of the evenly lit disk that is as concentrated as the probe.

    `probe` (P, N, N).
    In pixels: the disk's area is (Σ I)² / Σ I², with the intensity I summed over modes.

    Examples
    --------
    >>> along = np.arange(64) - 32
    >>> round(effective_diameter((along[:, None] ** 2 + along**2 < 10**2)[None] + 0j))
    20
    """
    intensity = np.sum(np.abs(probe) ** 2, axis=0)
    area = intensity.sum() ** 2 / np.sum(intensity**2)
    return float(2 * np.sqrt(area / np.pi))
