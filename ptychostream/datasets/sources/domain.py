"""Whether values are counts or amplitudes, decided on evidence."""

from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ptychostream.scan import MeasurementDomain

#: How far from whole a value may be, relative to what rounding in single precision makes.
_WHOLE = 0.01

#: Values that are looked at.
_LOOKED_AT = 200_000

#: Slopes of the noise over the signal, in logarithms: 1 for counts, 0 for amplitudes.
_MIDDLE, _SIGNAL = 0.5, 1.45


@dataclass(frozen=True)
class Verdict:
    """What values are, why, and whether that is certain."""

    domain: MeasurementDomain
    evidence: str
    is_certain: bool


def judge(
    sample: NDArray[Any], bad: NDArray[np.bool_], probe: NDArray[np.complex64] | None
) -> Verdict:
    """Judge whether patterns are counts or amplitudes.

    `sample` (K, H, W).
    `bad` (H, W): pixels that do not count.
    `probe` (P, N, N): illumination, whose power is Σ counts of an empty pattern.
    """
    by_steps = judge_by_steps(sample, bad)
    if by_steps is not None:
        return by_steps
    good = _good_values(sample, bad)
    if not (good > 0).any():
        return Verdict("counts", "they are zero everywhere", is_certain=False)
    by_power = _by_power(good, probe)
    if by_power is not None:
        return by_power
    return _by_noise(sample.astype(np.float64), bad)


def judge_by_steps(sample: NDArray[Any], bad: NDArray[np.bool_]) -> Verdict | None:
    """Judge by whole numbers and steps of the values or of their squares, which photons leave.

    None where there are none; otherwise the verdict is certain.
    """
    if sample.dtype.kind in "ui":
        return Verdict("counts", "they are integers", is_certain=True)
    values = _good_values(sample, bad).ravel()
    values = values[values > 0][:_LOOKED_AT]
    if not len(values):
        return None
    if _are_whole(values) and values.max() > 1:
        return Verdict("counts", "they are whole numbers", is_certain=True)
    if _are_whole(values**2) and values.max() > 1:
        return Verdict("amplitude", "their squares are whole numbers", is_certain=True)
    unit = np.percentile(values, 0.1)
    if _has_steps(values, unit):
        return Verdict("counts", f"they are multiples of {unit:.4g}", is_certain=True)
    if _has_steps(values**2, unit**2):
        return Verdict("amplitude", f"their squares are steps of {unit**2:.4g}", is_certain=True)
    return None


def _good_values(sample: NDArray[Any], bad: NDArray[np.bool_]) -> NDArray[np.float64]:
    """Return the values (K, pixels) of good pixels, without patterns that are not finite."""
    good = sample[:, ~bad].astype(np.float64)
    finite = np.isfinite(good).all(axis=1)
    good = good[finite] if finite.any() else good
    good[~np.isfinite(good)] = 0
    return good


def _are_whole(values: NDArray[np.float64]) -> bool:
    rest = np.abs(values - np.rint(values))
    return bool((rest <= _WHOLE + 2e-7 * values).all())


def _has_steps(values: NDArray[np.float64], unit: float) -> bool:
    """Return whether small values are whole multiples of one unit, and several of them."""
    small = values[values < 8 * unit] / unit
    if len(small) < 50 or np.rint(small).max() < 2:
        return False
    return bool((np.abs(small - np.rint(small)) < 0.02).all())


def _by_power(good: NDArray[np.float64], probe: NDArray[np.complex64] | None) -> Verdict | None:
    if probe is None:
        return None
    power = float(np.sum(np.abs(probe.astype(np.complex128)) ** 2))
    # The brightest patterns have met least absorption.
    as_counts = float(np.percentile(good.sum(axis=1), 90))
    as_amplitude = float(np.percentile((good**2).sum(axis=1), 90))
    if min(power, as_counts, as_amplitude) <= 0:
        return None
    off = {
        "counts": abs(np.log(as_counts / power)),
        "amplitude": abs(np.log(as_amplitude / power)),
    }
    near, far = sorted(off, key=lambda name: off[name])
    if off[near] > np.log(1.6) or off[far] < np.log(4):
        return None
    return Verdict(
        "counts" if near == "counts" else "amplitude",
        f"the probe's power of {power:.4g} is then that of a pattern",
        is_certain=True,
    )


def _by_noise(sample: NDArray[np.float64], bad: NDArray[np.bool_]) -> Verdict:
    """Compare the noise of neighbours with their mean: of counts it grows with them."""
    left, right = sample[..., :-1], sample[..., 1:]
    use = np.broadcast_to(~(bad[:, :-1] | bad[:, 1:]), left.shape)
    use = use & np.isfinite(left) & np.isfinite(right)
    mean, change = ((left + right) / 2)[use], ((left - right) ** 2 / 2)[use]
    lit = mean > 0
    mean, change = mean[lit], change[lit]
    parts = np.linspace(0.3, 0.99, 9 if len(mean) > 500 else 1)
    edges = np.unique(np.quantile(mean, parts)) if len(mean) else np.zeros(0)
    points = [
        (np.log(mean[part].mean()), np.log(np.median(change[part])))
        for part in ((mean >= a) & (mean < b) for a, b in pairwise(edges))
        if part.sum() > 50 and np.median(change[part]) > 0
    ]
    if len(points) < 4:
        return Verdict("amplitude", "nothing tells, neither steps nor noise", is_certain=False)
    x, y = np.array(points).T
    if np.ptp(x) < np.log(3):
        return Verdict("amplitude", "nothing tells: their range is small", is_certain=False)
    slope = float(np.polyfit(x, y, 1)[0])
    said = f"their noise grows with the power {slope:.2f} of the signal (counts 1, amplitudes 0)"
    if slope < _MIDDLE:
        return Verdict("amplitude", said, is_certain=slope < 0.3)
    if slope < _SIGNAL:
        return Verdict("counts", said, is_certain=slope > 0.7)
    return Verdict("amplitude", f"{said}, which no noise does", is_certain=False)
