"""How well a solution predicts patterns that it has not seen: the certificate of a result."""

import logging
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch.fft import fft2

from ptychostream.solver.misfit import PhotonNoise
from ptychostream.solver.options import SolverOptions
from ptychostream.solver.patterns import DealtPatterns
from ptychostream.solver.solver import PROBE_AT_REST, Solver

#: Part of the patterns that is left out, at least this many.
_LEFT_OUT, _FEWEST = 1 / 6, 4

#: Rates below this are treated as this rate.
_DARK = 1e-6

#: Part of photon noise's deviance below which a difference is chance.
_CHANCE = 0.01


@dataclass(frozen=True, kw_only=True)
class HeldOut:
    """What a short run on some of the patterns predicts for the others.

    `misfit_used`: R of the patterns that were used, in the last pass.
    `misfit`: R of the patterns left out.
    `misfit_ideal`: what R would be on average, were the predicted rates the truth: photon noise
        alone.
    `skill`: 1 - R / R of the mean pattern as the prediction: 0 is no better than knowing nothing.
    `explained`: the same by the Poisson deviance, of which photon noise is taken off: 1 is all that
        can be predicted, whatever the dose.
    `tells`: whether there is more to know than the mean pattern and photon noise; where there is
        not, `explained` is chance.
    """

    misfit_used: float
    misfit: float
    misfit_ideal: float
    skill: float
    explained: float
    num_left_out: int
    tells: bool = True


def neighbours_of_middle(positions: NDArray[np.float64], number: int) -> NDArray[np.int64]:
    """Return the patterns nearest to the middle of the scan, (n,) int64, in ascending order."""
    distance = np.abs(positions - np.median(positions, axis=0)).max(axis=1)
    return np.sort(np.argsort(distance, kind="stable")[:number])


def judge(
    counts: NDArray[np.float32],
    positions: NDArray[np.float64],
    probe: NDArray[np.complexfloating],
    good_pixels: NDArray[np.bool_],
    options: SolverOptions,
    *,
    seed: int = 0,
    should_stop: Callable[[], bool] | None = None,
) -> HeldOut | None:
    """Leave out a sixth of some patterns, solve with the others, and predict those left out.

    A model that is wrong may fit every pattern that it is given, such as a beam so small that
    patterns do not overlap; it does not predict others.

    `counts` (n, N, N): photons, zero frequency centred.
    `positions` (n, 2): their positions (x, y), in pixels.
    `probe` (P, N, N): illumination to begin with.
    `good_pixels` (N, N): True where the detector can be trusted.
    `options`: what the short run is asked for.
    `seed`: decides which patterns are left out.
    `should_stop`: asked before every update; once it returns True there is no result.
    Returns None where there are too few patterns, or it was stopped.
    """
    number = max(round(len(counts) * _LEFT_OUT), _FEWEST)
    if len(counts) < 3 * _FEWEST:
        return None
    left_out = np.random.default_rng(seed).permutation(len(counts))[:number]
    used = np.setdiff1d(np.arange(len(counts)), left_out)
    patterns = DealtPatterns.of_array(counts[used], good_pixels, device=options.device)
    # Positions cannot be corrected for patterns that are not seen.
    options = replace(
        options,
        correct_positions=False,
        fit_scan_geometry=False,
        minutes=None,
        probe_rest=PROBE_AT_REST,
    )
    solver = Solver(patterns, positions[used], probe, options)
    with _without_remarks():
        for _ in solver.run(should_stop=should_stop):
            pass
    if solver.stopped_by == "request":
        return None
    rates = predict(solver, positions[left_out])
    good = np.fft.ifftshift(good_pixels)
    measured = np.fft.ifftshift(counts[left_out], axes=(-2, -1))[:, good].astype(np.float64)
    mean = np.fft.ifftshift(counts[used].mean(0))[good].astype(np.float64)
    return _compare(measured, rates[:, good], mean, solver.misfit[-1])


@contextmanager
def _without_remarks() -> Iterator[None]:
    """Keep what the solver remarks on a short run out of the log; warnings stay."""
    log = logging.getLogger("ptychostream.solver.solver")

    def matters(record: logging.LogRecord) -> bool:
        return record.levelno > logging.INFO

    log.addFilter(matters)
    try:
        yield
    finally:
        log.removeFilter(matters)


@torch.no_grad()
def predict(solver: Solver, positions: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the rates (n, N, N) predicted at positions, zero frequency in the corner."""
    layout, source = solver.layout, solver.canvas.found
    kept = layout.positions
    low = torch.tensor(layout.origin) + layout.edge // 2 + 2
    high = torch.tensor(layout.origin) + torch.tensor(layout.shape[::-1]) - layout.edge // 2 - 2
    try:
        # A position beyond the patterns used sees the edge of the canvas.
        layout.positions = torch.from_numpy(positions).clamp(min=low, max=high)
        spectrum = fft2(solver.probe)
        parts = [
            solver.rates(source, spectrum, torch.arange(first, min(first + 16, len(positions))))
            for first in range(0, len(positions), 16)
        ]
    finally:
        layout.positions = kept
    return torch.cat(parts).double().cpu().numpy()


def _compare(
    measured: NDArray[Any], rates: NDArray[Any], mean: NDArray[Any], misfit_used: float
) -> HeldOut:
    """Compare counts left out (n, K) with predicted rates, and with the mean pattern (K,)."""
    noise, norm = PhotonNoise(), np.sqrt(measured).sum()

    def r_factor(rate: NDArray[Any]) -> float:
        return float(np.abs(np.sqrt(measured) - np.sqrt(rate)).sum() / max(norm, _DARK))

    def excess(rate: NDArray[Any]) -> tuple[float, float]:
        """Deviance of rates, and what of it photon noise explains."""
        rate = np.maximum(rate, _DARK)
        ratio = np.log(np.where(measured > 0, measured, 1) / rate) * measured
        return float(2 * (ratio - measured + rate).sum()), float(noise.deviance(rate).sum())

    everywhere = np.broadcast_to(mean, measured.shape)
    # Softened: with a predicted rate of zero, a single photon would have an infinite deviance.
    soft = 0.98 * rates + 0.02 * everywhere
    found, expected = excess(soft)
    without, _ = excess(everywhere)
    # Where the mean pattern leaves nothing but noise to explain, chance decides.
    known = max(without - expected, _CHANCE * expected, _DARK)
    return HeldOut(
        misfit_used=misfit_used,
        misfit=r_factor(rates),
        misfit_ideal=float(noise.modulus(soft).sum() / max(norm, _DARK)),
        skill=1 - r_factor(rates) / max(r_factor(everywhere), _DARK),
        explained=min(1.0, 1 - (found - expected) / known),
        num_left_out=len(measured),
        tells=without - expected > _CHANCE * expected,
    )


def judge_result(
    solver: Solver,
    counts: NDArray[np.float32],
    rows: NDArray[np.int64],
    good_pixels: NDArray[np.bool_],
    options: SolverOptions,
    *,
    should_stop: Callable[[], bool] | None = None,
) -> tuple[HeldOut | None, HeldOut | None]:
    """Judge a solution by patterns left out, and beside it a scan of which it is the truth.

    How much can be predicted depends on dose, overlap and object. The same short run on
    patterns that are simulated from the solution, at its positions and dose, says how much.

    `counts` (n, N, N): some neighbouring patterns, zero frequency centred.
    `rows` (n,): their numbers in the scan.
    `good_pixels` (N, N): True where the detector can be trusted.
    `options`: what the short runs are asked for.
    Returns (HeldOut or None, HeldOut or None): of the patterns, and of the simulated ones.
    """
    positions = solver.layout.positions.numpy()[rows]
    probe = solver.probe.cpu().numpy()
    found = judge(counts, positions, probe, good_pixels, options, should_stop=should_stop)
    if found is None:
        return None, None
    rates = np.fft.fftshift(predict(solver, positions), axes=(-2, -1))
    if not np.isfinite(rates).all():
        return found, None
    rng = np.random.default_rng(options.seed)
    simulated = rng.poisson(np.minimum(rates, 1e9)).astype(np.float32)
    if not simulated[:, good_pixels].any():
        return found, None
    twin = judge(simulated, positions, probe, good_pixels, options, should_stop=should_stop)
    return found, twin
