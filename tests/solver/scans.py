"""Scans of 16-pixel patterns, computed in double precision beside the library."""

from dataclasses import dataclass

import numpy as np


@dataclass
class SmallScan:
    """True object (H, W), modes (P, N, N), positions (M, 2) and the rates (M, N, N)."""

    obj: np.ndarray
    probe: np.ndarray
    positions: np.ndarray
    rates: np.ndarray


def predicted(obj, probe, positions):
    """Predict patterns (M, N, N), zero frequency centred; beams are shifted by fractions."""
    edge, k = probe.shape[-1], np.fft.fftfreq(probe.shape[-1])
    spectrum, rates = np.fft.fft2(probe), []
    for x, y in positions:
        column, row = int(np.rint(x)), int(np.rint(y))
        turn = np.exp(-2j * np.pi * (k[:, None] * (y - row) + k * (x - column)))
        beam = np.fft.ifft2(spectrum * turn)
        top, left = row - edge // 2, column - edge // 2
        wave = np.fft.fft2(obj[top : top + edge, left : left + edge] * beam) / edge
        rates.append(np.fft.fftshift((np.abs(wave) ** 2).sum(0)))
    return np.array(rates)


def gaussian_beam(edge=16, width=3.0, curvature=0.05):
    """Return a beam (1, N, N) with a curved front."""
    along = np.arange(edge) - edge / 2
    squared = along[:, None] ** 2 + along**2
    return np.exp(-squared / (2 * width**2) + 1j * curvature * squared)[None]


def small_scan(photons=1e6, *, side=9, step=2.3, seed=0, probe=None):
    """Make a scan of side² positions over a smooth, complex object."""
    rng = np.random.default_rng(seed)
    probe = gaussian_beam() if probe is None else probe
    edge = probe.shape[-1]
    x, y = np.meshgrid(np.arange(side) * step, np.arange(side) * step)
    positions = np.stack([x.ravel(), y.ravel()], 1) + rng.uniform(-0.5, 0.5, (side**2, 2))
    positions += edge
    size = int(positions.max()) + edge
    noise = np.fft.fft2(rng.normal(size=(2, size, size)))
    k = np.fft.fftfreq(size)
    blur = np.exp(-((k[:, None] ** 2 + k**2) / (2 * 0.08**2)))
    first, second = np.fft.ifft2(noise * blur).real
    obj = (1 - 0.3 * first / np.ptp(first)) * np.exp(1j * second / np.ptp(second))
    rates = predicted(obj, probe, positions)
    scale = photons / rates.sum((1, 2)).mean()
    return SmallScan(obj, probe * np.sqrt(scale), positions, rates * scale)


def likeness(first, second):
    """Correlation of two complex arrays, whatever their scale and phase."""
    product = abs(np.vdot(first, second))
    return float(product / np.linalg.norm(first) / np.linalg.norm(second))
