"""Several experiments of one stage, solved as one object."""

import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

import ptychostream as ps
from ptychostream.cli.main import main
from ptychostream.errors import ConfigurationError, DataContractError
from ptychostream.scan import ArrayPatterns, ScanMetadata

sys.path.insert(0, str(Path(__file__).parents[1] / "solver"))
from scans import likeness, small_scan


@pytest.fixture
def halves():
    """A scan in two parts, which share hardly a position's beam."""
    small = small_scan(1e5, side=10)
    counts = np.random.default_rng(0).poisson(small.rates).astype(np.uint32)
    whole = ps.Scan(
        name="whole",
        patterns=ArrayPatterns(counts),
        measurement_domain="counts",
        positions=small.positions,
        probe=small.probe.astype(np.complex64),
    )
    left = small.positions[:, 0] < np.median(small.positions[:, 0])
    return whole, *(whole.select(np.flatnonzero(part)) for part in (left, ~left))


def test_joined_parts_give_the_object_of_the_whole_scan(halves, tmp_path):
    whole, *parts = halves
    one = ps.reconstruct(
        ps.build_group_store(whole, tmp_path / "whole.zarr"), refine_probe=False, checks_fit=False
    )
    store = ps.build_group_store(parts, tmp_path / "parts.zarr")
    joined = ps.reconstruct(store, experiment=[0, 1], refine_probe=False)
    assert len(joined.positions) == 100
    assert joined.object.shape == one.object.shape
    well = one.coverage >= 3
    np.testing.assert_array_equal(joined.coverage, one.coverage)
    assert likeness(joined.object[well], one.object[well]) > 0.9995
    assert joined.warnings() == []
    *_, last = ps.solve(store, experiment=[0, 1], refine_probe=False, passes=20)
    assert last.misfit == pytest.approx(joined.misfit[-1], rel=1e-5)


def test_parts_that_cannot_share_an_object_are_refused_or_said(halves, tmp_path):
    _, left, right = halves
    other = replace(
        right,
        metadata=ScanMetadata(object_pixel_size_m=2e-8),
        probe=np.roll(right.probe, 8, axis=-1),
    )
    left = replace(left, metadata=ScanMetadata(object_pixel_size_m=1e-8))
    store = ps.build_group_store([left, other], tmp_path / "s.zarr")
    with pytest.raises(DataContractError, match="object pixels of 10 and 20 nm"):
        ps.reconstruct(store, experiment=[0, 1])
    with pytest.raises(ConfigurationError, match="one of them twice"):
        ps.reconstruct(store, experiment=[0, 0])
    other = replace(other, metadata=left.metadata)
    store = ps.build_group_store([left, other], tmp_path / "t.zarr")
    result = ps.reconstruct(store, experiment=[0, 1], passes=1, checks_fit=False)
    assert any("correlate by only" in text for text in result.warnings())


def test_join_writes_one_result(halves, tmp_path, capsys):
    _, *parts = halves
    ps.build_group_store(parts, tmp_path / "s.zarr")
    words = ["reconstruct", str(tmp_path / "s.zarr"), "-o", str(tmp_path / "out"), "--join"]
    assert main(words) == 2
    assert "--join has no effect without --experiment" in capsys.readouterr().err
    assert main([*words, "--experiment", "all", "--passes", "2", "--checks_fit", "false"]) == 0
    with np.load(tmp_path / "out" / "object.npz") as found:
        assert len(found["positions"]) == 100
    assert not (tmp_path / "out" / "experiment-0000").exists()
