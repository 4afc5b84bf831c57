import sys
from pathlib import Path

import numpy as np
import pytest

import ptychostream as ps
from ptychostream.scan import ArrayPatterns

sys.path.insert(0, str(Path(__file__).parents[1] / "solver"))
from scans import gaussian_beam, small_scan


def _sound(counts, positions, probe):
    return counts, positions, probe


def _late(counts, positions, probe):
    """Patterns one trigger late; on a raster that is but a shift, so positions are in any order."""
    order = np.random.default_rng(5).permutation(len(counts))
    return np.roll(counts[order], 1, 0), positions[order], probe


def _store(path, photons, seed, *, mends=_sound):
    along = np.arange(16) - 8
    beam = gaussian_beam(width=2.6, curvature=0.08)
    beam = beam * (1 + 0.5 * np.tanh(along / 3) + 0.4j * np.tanh(along[:, None] / 2))
    small = small_scan(photons, side=10, step=2.6, probe=beam, seed=seed)
    counts = np.random.default_rng(seed).poisson(small.rates).astype(np.uint32)
    counts, positions, probe = mends(counts, small.positions, small.probe)
    scan = ps.Scan(
        name="a scan",
        patterns=ArrayPatterns(counts),
        measurement_domain="counts",
        positions=positions,
        probe=probe.astype(np.complex64),
    )
    return ps.build_group_store(scan, path / "scan.zarr", progress=False)


@pytest.mark.parametrize(
    ("photons", "seed"), [(1e2, 0), (1e2, 1), (1e3, 0), (1e3, 1), (1e4, 0), (1e5, 1), (1e6, 0)]
)
def test_a_sound_scan_of_any_dose_has_no_warning(photons, seed, tmp_path):
    result = ps.reconstruct(_store(tmp_path, photons, seed), passes=15, refine_probe=False)
    assert result.warnings() == []


@pytest.mark.parametrize(
    "fault",
    [
        lambda counts, positions, probe: (counts.transpose(0, 2, 1), positions, probe),
        _late,
        lambda counts, positions, probe: (counts, positions[:, ::-1].copy(), probe),
        lambda counts, positions, probe: (
            counts,
            positions + np.random.default_rng(0).normal(0, 3, positions.shape),
            probe,
        ),
    ],
    ids=["transposed", "late trigger", "axes exchanged", "positions off"],
)
def test_a_wrong_geometry_has_a_warning(fault, tmp_path):
    result = ps.reconstruct(_store(tmp_path, 1e6, 0, mends=fault))
    assert any("patterns" in text and "check" in text for text in result.warnings())


def test_the_result_holds_its_misfit(tmp_path):
    store = _store(tmp_path, 1e6, 0)
    result = ps.reconstruct(store, passes=6)
    assert result.misfit.shape == (6,)
    assert result.misfit[-1] < result.misfit[0]
    assert result.misfit_of_patterns.shape == (100,)
    assert np.average(result.misfit_of_patterns) == pytest.approx(result.fit.final, rel=0.2)
    assert result.fit.held_out.explained > 0.8
    np.testing.assert_array_equal(result.positions_measured, store.positions)


def test_a_result_goes_on_where_it_stopped(tmp_path):
    from ptychostream.reconstruction.result import save_result

    store = _store(tmp_path, 1e6, 0)
    first = ps.reconstruct(store, passes=4, checks_fit=False)
    save_result(first, tmp_path / "first")
    second = ps.reconstruct(store, passes=4, checks_fit=False, start=tmp_path / "first")
    assert second.misfit[0] < first.misfit[0]
    assert second.fit.final < first.fit.final
    with np.load(tmp_path / "first" / "object.npz") as file:
        assert {"misfit", "misfit_of_patterns", "positions_measured"} <= set(file)


def test_a_pass_can_end_the_run(tmp_path):
    seen = []

    def on_pass(state):
        seen.append(state.number)
        return state.number == 2

    result = ps.reconstruct(_store(tmp_path, 1e5, 0), checks_fit=False, on_pass=on_pass)
    assert seen == [1, 2]
    assert result.fit.stopped_by == "request"
