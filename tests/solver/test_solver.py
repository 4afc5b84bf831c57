import itertools

import numpy as np
import pytest
from scans import gaussian_beam, likeness, predicted, small_scan

from ptychostream.errors import ConfigurationError, DataContractError
from ptychostream.geometry import ObjectGrid
from ptychostream.solver.held_out import judge
from ptychostream.solver.options import SolverOptions
from ptychostream.solver.patterns import PARTS, DealtPatterns, deal
from ptychostream.solver.solver import Solver
from ptychostream.solver.steps import Steps


def _solve(scan, counts=None, probe=None, positions=None, **options):
    counts = scan.rates if counts is None else counts
    options = SolverOptions(**{"refine_probe": False, "passes": 15, **options})
    solver = Solver(
        DealtPatterns.of_array(counts.astype(np.float32)),
        scan.positions if positions is None else positions,
        scan.probe if probe is None else probe,
        options,
    )
    for _ in solver.run():
        pass
    return solver


def _inside(scan, obj):
    """The part of an object that several positions light."""
    return obj[scan.probe.shape[-1] : -scan.probe.shape[-1], 16:-16]


def _object(scan, solver):
    return solver.object_on(ObjectGrid(*scan.obj.shape))


@pytest.mark.parametrize("photons", [10, 100])
def test_few_photons_do_not_darken_the_object(photons):
    scan = small_scan(photons, side=14)
    solver = _solve(scan, np.random.default_rng(0).poisson(scan.rates), passes=8)
    found, truth = _inside(scan, _object(scan, solver)), _inside(scan, scan.obj)
    assert np.abs(found).mean() == pytest.approx(np.abs(truth).mean(), rel=0.05)
    # R rises meanwhile, as hardly a pixel holds a photon.
    assert solver.stopped_by == "passes"


@pytest.mark.parametrize("photons", [1e4, 1e6, 1e8])
def test_the_object_is_found_from_nothing(photons):
    scan = small_scan(photons)
    solver = _solve(scan, np.random.default_rng(0).poisson(scan.rates))
    found, truth = _inside(scan, _object(scan, solver)), _inside(scan, scan.obj)
    assert likeness(found, truth) > 0.995
    assert likeness(found - found.mean(), truth - truth.mean()) > (0.9 if photons < 1e5 else 0.98)


def test_the_misfit_is_that_of_an_independent_prediction():
    scan = small_scan(1e5)
    counts = np.random.default_rng(0).poisson(scan.rates)
    solver = _solve(scan, counts, passes=4)
    solver.misfit_of_patterns()
    grid = ObjectGrid(*scan.obj.shape)
    rates = predicted(_padded(solver.object_on(grid)), solver.probe_found(), scan.positions)
    expected = np.abs(np.sqrt(counts) - np.sqrt(rates)).sum() / np.sqrt(counts).sum()
    assert solver.final_misfit == pytest.approx(expected, rel=1e-3)


def _padded(obj):
    return obj.astype(np.complex128)


def test_a_wrong_probe_is_mended():
    scan = small_scan()
    wrong = gaussian_beam(width=4.0, curvature=0.0)
    solver = _solve(scan, probe=wrong, refine_probe=True, passes=30)
    assert likeness(wrong, scan.probe) < 0.9
    assert likeness(solver.probe_found(), scan.probe) > 0.985


def test_a_missing_mode_is_added():
    first = gaussian_beam()[0]
    along = np.arange(16) - 8
    second = first * along / 4
    scan = small_scan(probe=np.stack([first, second]), step=1.8)
    one = _solve(scan, probe=scan.probe[:1], refine_probe=True)
    two = _solve(scan, probe=scan.probe[:1], refine_probe=True, probe_modes=2)
    assert two.misfit[-1] < 0.85 * one.misfit[-1]
    power = (np.abs(two.probe_found()) ** 2).sum((1, 2))
    # It began with a tenth of the first one's power, and has found its way to the true mode.
    assert likeness(two.probe_found()[1], second) > 0.7
    assert 0.03 < power[1] / power.sum() < 0.3


def test_wrong_positions_are_mended():
    scan = small_scan()
    wrong = scan.positions + np.random.default_rng(1).normal(0, 0.8, scan.positions.shape)
    solver = _solve(scan, positions=wrong, correct_positions=True, passes=25)

    def error(positions):
        difference = positions - scan.positions
        return (difference - difference.mean(0)).std()

    assert error(solver.layout.positions.numpy()) < 0.4 * error(wrong)


def test_a_wrong_scale_of_the_stage_is_found_first():
    scan = small_scan(side=11)
    middle = scan.positions.mean(0)
    wrong = middle + 0.9 * (scan.positions - middle)
    options = {"correct_positions": True, "passes": 25}
    together = _solve(scan, positions=wrong, fit_scan_geometry=True, **options)
    found = together.layout.positions.numpy()
    spread = np.ptp(found, axis=0) / np.ptp(scan.positions, axis=0)
    np.testing.assert_allclose(spread, 1, atol=0.05)


def test_bad_pixels_say_nothing():
    scan, good = small_scan(1e5), np.ones((16, 16), bool)
    good[3], good[:, 9] = False, False
    spoiled = np.where(good, scan.rates, 65535.0)
    options = SolverOptions(refine_probe=False, passes=5)
    objects = []
    for counts in (scan.rates, spoiled):
        patterns = DealtPatterns.of_array(counts.astype(np.float32), good)
        solver = Solver(patterns, scan.positions, scan.probe, options)
        for _ in solver.run():
            pass
        objects.append(solver.object_on(None))
    np.testing.assert_array_equal(*objects)


def test_the_probe_given_is_left_as_it_was():
    scan = small_scan(1e5)
    probe = scan.probe.astype(np.complex64)
    before = probe.copy()
    _solve(scan, probe=probe, refine_probe=True, passes=3)
    np.testing.assert_array_equal(probe, before)


def test_what_the_object_absorbs_is_known_from_the_probes_power():
    scan = small_scan(1e6)
    found = _inside(scan, _object(scan, _solve(scan)))
    truth = _inside(scan, scan.obj)
    assert np.abs(found).mean() == pytest.approx(np.abs(truth).mean(), rel=0.02)


def test_parts_are_thin_samples_of_the_whole_scan():
    order, bounds = deal(np.arange(1000), seed=0)
    np.testing.assert_array_equal(np.sort(order), np.arange(1000))
    assert len(bounds) == PARTS + 1
    for first, last in itertools.pairwise(bounds):
        part = order[first:last]
        assert 20 <= len(part) <= 21
        # One of each run of neighbours, in their order.
        np.testing.assert_array_equal(part // PARTS, np.arange(len(part)))


def test_a_run_that_diverges_begins_anew_with_shorter_steps():
    scan = small_scan(1e5)
    solver = _solve(scan, refine_probe=True, step=6.0, passes=6)
    assert solver._step < 6
    assert np.isfinite(_object(scan, solver)).all()


def test_a_run_that_always_diverges_ends_and_says_so():
    scan = small_scan(1e5)
    solver = _solve(scan, refine_probe=True, step=1e6, passes=6)
    assert solver.stopped_by == "divergence"
    assert np.isfinite(_object(scan, solver)).all()


def test_a_step_can_be_exchanged():
    def nothing(counts, rate, *, brightness, trust):
        return 0 * rate

    scan = small_scan(1e5)
    still = _solve(scan, passes=3, steps=Steps(residual=nothing))
    np.testing.assert_allclose(still.canvas.object, 1, atol=1e-5)


def test_each_pass_yields_what_there_is():
    scan = small_scan(1e5)
    solver = Solver(
        DealtPatterns.of_array(scan.rates.astype(np.float32)),
        scan.positions,
        scan.probe,
        SolverOptions(passes=4, refine_probe=False),
    )
    states = list(solver.run(grid=ObjectGrid(*scan.obj.shape)))
    assert [(s.number, s.passes) for s in states] == [(n, 4) for n in (1, 2, 3, 4)]
    assert states[-1].misfit < states[0].misfit
    assert states[-1].object.shape == scan.obj.shape


def test_a_run_stops_when_asked():
    scan = small_scan(1e5)
    patterns = DealtPatterns.of_array(scan.rates.astype(np.float32))
    solver = Solver(patterns, scan.positions, scan.probe, SolverOptions(passes=50))
    asked = [0]

    def should_stop():
        asked[0] += 1
        return asked[0] > 20

    assert len(list(solver.run(should_stop=should_stop))) < 50
    assert solver.stopped_by == "request"


def test_a_given_time_decides_the_number_of_passes():
    scan = small_scan(1e5)
    patterns = DealtPatterns.of_array(scan.rates.astype(np.float32))
    solver = Solver(patterns, scan.positions, scan.probe, SolverOptions(minutes=1e-4))
    assert len(list(solver.run())) == 2
    assert solver.stopped_by == "minutes"


def test_a_true_model_predicts_patterns_left_out_and_a_wrong_one_does_not():
    scan = small_scan(1e6)
    counts = np.random.default_rng(0).poisson(scan.rates).astype(np.float32)
    good, options = np.ones((16, 16), bool), SolverOptions(passes=12)
    right = judge(counts, scan.positions, scan.probe, good, options)
    swapped = judge(counts, scan.positions[:, ::-1].copy(), scan.probe, good, options)
    assert right.explained > 0.95
    assert swapped.explained < 0.65


def test_where_photons_are_too_few_nothing_is_called_explained():
    scan = small_scan(0.5)
    counts = np.random.default_rng(0).poisson(scan.rates).astype(np.float32)
    good = np.ones((16, 16), bool)
    found = judge(counts, scan.positions, scan.probe, good, SolverOptions(passes=4))
    assert not found.tells
    assert found.explained <= 1


def test_patterns_without_light_are_refused():
    scan = small_scan(1e5)
    with pytest.raises(DataContractError, match="0 photons on average"):
        _solve(scan, 0 * scan.rates)


@pytest.mark.parametrize(
    "wrong",
    [
        {"passes": 0},
        {"probe_modes": 0},
        {"minutes": -1.0},
        {"smoothness": -1.0},
        {"fit_scan_geometry": True},
    ],
)
def test_options_out_of_range_are_refused_by_name(wrong):
    with pytest.raises(ConfigurationError, match=next(iter(wrong))):
        SolverOptions(**wrong)


def test_a_probe_that_fades_away_is_left_as_it_was_given():
    def fade(probe, velocity, **_):
        probe.mul_(0.01)

    small = small_scan(1e4, side=6)
    counts = np.random.default_rng(0).poisson(small.rates).astype(np.float32)
    options = SolverOptions(passes=4, steps=Steps(probe_step=fade))
    solver = Solver(DealtPatterns.of_array(counts), small.positions, small.probe, options)
    states = list(solver.run())
    assert solver.probe_was_lost
    assert solver.stopped_by == "passes"
    assert len(states) >= 4
    assert likeness(solver.probe_found(), small.probe) > 0.999
