import json
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import yaml

import ptychostream as ps
from ptychostream.cli.main import main
from ptychostream.datasets.sources import InputOptions
from ptychostream.datasets.sources.npz import write_npz
from ptychostream.datasets.sources.preprocess import ORIENTATIONS
from ptychostream.errors import DataContractError
from ptychostream.reconstruction.hypotheses import hypotheses_for, pairs
from ptychostream.scan import ArrayPatterns
from ptychostream.solver import probe_from_patterns
from ptychostream.solver.probe_from_patterns import find_orientation, find_probe

sys.path.insert(0, str(Path(__file__).parents[1] / "solver"))
from scans import gaussian_beam, small_scan


def _scan(*, turn="identity", axes=((1, 0), (0, 1)), shift=0, factor=1.0):
    """A sound scan with an asymmetric beam; then what is wrong with it."""
    beam = gaussian_beam(width=2.6, curvature=0.08)
    along = np.arange(16) - 8
    beam = beam * (1 + 0.5 * np.tanh(along / 3) + 0.4j * np.tanh(along[:, None] / 2))
    small = small_scan(1e6, side=10, step=2.6, probe=beam, seed=4)
    counts = np.random.default_rng(0).poisson(small.rates).astype(np.uint32)
    positions = small.positions.mean(0) + factor * (
        (small.positions - small.positions.mean(0)) @ np.array(axes, float).T
    )
    counts = np.roll(ORIENTATIONS[turn](counts), shift, axis=0)
    return ps.Scan(
        name="a scan",
        patterns=ArrayPatterns(counts),
        measurement_domain="counts",
        positions=positions,
        probe=small.probe.astype(np.complex64),
    )


def test_a_sound_scan_is_left_alone():
    found = ps.check(_scan())
    assert found.verdict == "sound"
    assert found.options == []
    assert found.hypotheses[0].explained > 0.8


@pytest.mark.parametrize("turn", ["flip_y", "rot180"])
def test_turned_patterns_are_found(turn):
    found = ps.check(_scan(turn=turn))
    assert found.verdict == "mend"
    # Patterns turned by half a turn are those of the conjugate beam and object.
    conjugate = ["--probe_transform", "conjugate"] if turn == "rot180" else None
    assert found.options in (["--orientation", turn], _as_axes(turn), conjugate)


def _as_axes(turn):
    axes = {"transpose": "swap", "flip_y": "flip_y", "rot180": "flip_x,flip_y"}[turn]
    return ["--position_transform", axes]


def test_exchanged_axes_are_found():
    found = ps.check(_scan(axes=((0, 1), (1, 0))))
    assert found.verdict == "mend"
    assert found.options in (["--position_transform", "swap"], ["--orientation", "transpose"])


def test_a_trigger_pairs_patterns_with_positions_outside_of_the_part_that_is_read():
    rows, positions = np.array([2, 3, 7, 9]), np.arange(20.0).reshape(10, 2)
    counts = np.repeat(rows, 16 * 16).reshape(4, 16, 16).astype(np.float32)
    part = (counts, positions[rows], gaussian_beam(width=2.6, curvature=0.08)[None])
    triggers = [h for h in hypotheses_for(part, rows, positions) if h.kind == "trigger"]
    assert len(triggers) == 4
    for hypothesis in triggers:
        shift = int(hypothesis.options[1])
        patterns, places, _ = hypothesis.change(part)
        kept = patterns[:, 0, 0].astype(int)
        np.testing.assert_array_equal(places, positions[kept + shift])
        assert len(kept) == 4 - (shift > 0 or shift < -2)


def test_the_command_writes_its_findings_and_options_that_build_takes(tmp_path, capsys):
    write_npz(_scan(turn="transpose"), tmp_path / "turned.npz")
    source, result, mend = (tmp_path / n for n in ("turned.npz", "found.json", "mend.yaml"))
    code = main(["check", str(source), "--json", str(result), "--apply", str(mend)])
    assert code == 3
    record = json.loads(result.read_text())
    assert record["verdict"] == "mend"
    assert record["hypotheses"][0]["options"] == record["options"]
    assert record["options"] in (["--orientation", "transpose"], _as_axes("transpose"))
    assert "next: ptychostream build" in capsys.readouterr().out
    assert yaml.safe_load(mend.read_text())
    target = tmp_path / "mended.zarr"
    assert main(["build", str(source), str(target), "--config", str(mend)]) == 0
    assert ps.check(ps.open_group_store(target)).verdict == "sound"


@pytest.mark.parametrize("truly", ["counts", "amplitude"])
def test_counts_that_are_called_amplitudes_are_found_by_their_steps(truly):
    """And the other way round; the solver then judges the geometry of the right ones."""
    scan = _scan(shift=2)
    counts = scan.patterns.read(np.arange(scan.num_patterns))
    values = counts if truly == "counts" else np.sqrt(counts).astype(np.float32)
    other = {"counts": "amplitude", "amplitude": "counts"}[truly]
    wrong = replace(scan, patterns=ArrayPatterns(values), measurement_domain=other)
    found = ps.check(wrong)
    assert found.verdict == "mend"
    assert found.options == ["--measurement_domain", truly, "--trigger_shift", "-2"]


def test_too_few_patterns_are_refused():
    scan = _scan()
    with pytest.raises(DataContractError, match="too few to check"):
        ps.check(replace(scan.select(np.arange(6)), object_guess=None))


@pytest.mark.parametrize("turn", ["identity", "transpose"])
def test_the_orientation_is_found_with_a_probe_of_each(monkeypatch, turn):
    monkeypatch.setattr(probe_from_patterns, "_NUMBER", 4)
    assert find_orientation(_scan(turn=turn)) == turn


def test_a_probe_of_turned_patterns_is_refused_with_the_orientation_that_has_one(monkeypatch):
    monkeypatch.setattr(probe_from_patterns, "_NUMBER", 4)
    with pytest.raises(DataContractError, match="--orientation transpose"):
        find_probe(_scan(turn="transpose"))
    # What the sound scan has: found with the options of the message.
    assert find_probe(_scan(), InputOptions(orientation="transpose")).shape == (1, 16, 16)


def test_a_mirrored_probe_is_among_the_hypotheses():
    part = (np.ones((4, 16, 16), np.float32), np.zeros((4, 2)), _scan().probe)
    mirrored = [h for h in hypotheses_for(part, np.arange(4), part[1]) if "mirrored" in h.name]
    assert [h.options[1] for h in mirrored] == ["flip_x", "flip_y", "transpose"]
    for hypothesis in mirrored:
        probe = hypothesis.change(part)[2]
        assert not np.array_equal(probe, part[2])
        again = hypothesis.change((*part[:2], probe))[2]
        np.testing.assert_array_equal(again, part[2])


def test_two_faults_at_once_are_found_and_their_options_mend_both(tmp_path):
    write_npz(_scan(turn="transpose", shift=2), tmp_path / "twice.npz")
    found = ps.check(ps.read_scan(tmp_path / "twice.npz"))
    assert found.verdict == "mend"
    assert found.options == ["--orientation", "transpose", "--trigger_shift", "-2"]
    assert main(["check", str(tmp_path / "twice.npz"), *found.options]) == 0


def test_pairs_act_on_a_mask_as_on_patterns_and_leave_no_option_twice():
    rng = np.random.default_rng(0)
    rows = np.arange(4)
    part = (rng.random((4, 16, 16)).astype(np.float32), rng.random((4, 2)), _scan().probe)
    listed = hypotheses_for(part, rows, part[1])
    of_two = pairs(listed)
    assert len(of_two) > 150
    for pair in of_two:
        names = pair.options[::2]
        assert len(set(names)) == len(names)
        patterns, _, _ = pair.change(part)
        turned = part[0] if pair.turn is None else pair.turn(part[0])
        assert {p.tobytes() for p in patterns} <= {t.tobytes() for t in turned}
