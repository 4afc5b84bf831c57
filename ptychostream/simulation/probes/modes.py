"""Orthogonal incoherent modes with given shares of the power."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from ptychostream.errors import ConfigurationError
from ptychostream.simulation.probes.frame import squared_radius


def incoherent_modes(
    probe: NDArray[np.complex128], powers: Sequence[float]
) -> NDArray[np.complex128]:
    """Make a probe partially coherent: orthogonal modes, each with its share of the power.

    A single probe is multiplied by 1, x, y, x², xy, y², ... before the modes are made
    orthogonal, so that a Gaussian beam becomes its Hermite-Gauss modes, the eigenmodes of a
    partially coherent Gaussian beam.

    Parameters
    ----------
    probe : (P, N, N) complex128
        One mode, from which the others are made; or as many as there are powers.

    Raises
    ------
    ConfigurationError
        If a power is not positive, or the number of modes fits neither.
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
