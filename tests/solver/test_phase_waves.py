import numpy as np
import pytest
import torch
from scans import predicted, small_scan

from ptychostream.geometry import ObjectGrid
from ptychostream.solver.canvas import Canvas
from ptychostream.solver.layout import PatchLayout
from ptychostream.solver.options import SolverOptions
from ptychostream.solver.patterns import DealtPatterns
from ptychostream.solver.phase_waves import PhaseWaves
from ptychostream.solver.ranks import Ranks
from ptychostream.solver.solver import Solver

EDGE = 32


@pytest.fixture(scope="module")
def scan():
    """A narrow, flat beam that steps over an object twenty times as wide."""
    along = np.arange(EDGE) - EDGE / 2
    beam = np.exp(-(along[:, None] ** 2 + along**2) / (2 * 2.5**2)).astype(complex)[None]
    return small_scan(1e6, side=20, step=3.0, probe=beam)


def test_the_curvature_is_that_of_amplitudes_under_a_ramp_of_the_phase(scan):
    waves = PhaseWaves(Canvas(PatchLayout(scan.positions, EDGE)), Ranks())
    waves.look(torch.from_numpy(np.fft.ifftshift(scan.rates, axes=(1, 2))).float())
    assert waves.begin()
    # A wave of unit height has a slope of 2π q.
    q, amplitude = 1e-3, np.sqrt(scan.rates)
    y, x = np.indices(scan.obj.shape)
    for along, found in ((x, waves.curvature[0]), (y, waves.curvature[1])):
        turned = predicted(scan.obj * np.exp(2j * np.pi * q * along), scan.probe, scan.positions)
        change = ((np.sqrt(turned) - amplitude) ** 2).sum() / (amplitude**2).sum()
        assert found * q**2 == pytest.approx(change, rel=0.05)


def _solved(scan, obj, **options):
    """Return the error of the phase, in rad, and the misfit."""
    counts = np.random.default_rng(1).poisson(predicted(obj, scan.probe, scan.positions))
    solver = Solver(
        DealtPatterns.of_array(counts.astype(np.float32)),
        scan.positions,
        scan.probe,
        SolverOptions(passes=12, refine_probe=False, **options),
    )
    for _ in solver.run():
        pass
    inner = (slice(EDGE, -EDGE), slice(EDGE, -EDGE))
    found = solver.object_on(ObjectGrid(*obj.shape))[inner]
    error = np.angle(found * obj[inner].conj())
    # A ramp of the phase is a shift of all patterns, which the light of the beam may take up.
    y, x = np.indices(error.shape)
    basis = np.stack([np.ones(error.size), x.ravel(), y.ravel()], axis=1)
    error = error.ravel() - basis @ np.linalg.lstsq(basis, error.ravel(), rcond=None)[0]
    return float(error.std()), solver.misfit[-1]


def test_a_wave_as_long_as_the_object_is_found_in_a_few_passes(scan):
    y, x = np.indices(scan.obj.shape) / scan.obj.shape[0]
    obj = scan.obj * np.exp(0.8j * np.sin(2 * np.pi * (x + 0.5 * y)))
    without, misfit_without = _solved(scan, obj, phase_waves=0)
    error, misfit = _solved(scan, obj)
    assert error < 0.5 * without
    assert misfit <= misfit_without
