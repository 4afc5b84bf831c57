"""What looks like a mistake in the data is said, once, with what to do."""

from dataclasses import replace

import numpy as np
import pytest

import ptychostream as ps
from ptychostream.datasets.sources.preprocess import Preprocessing, preprocess
from ptychostream.datasets.store.plausibility import is_corner_centred
from ptychostream.errors import DataContractError
from ptychostream.scan import ArrayPatterns

EVERY = np.arange(64)


def with_patterns(scan, patterns, **changes):
    return replace(scan, patterns=ArrayPatterns(patterns), **changes)


@pytest.mark.parametrize("probe", ["gaussian", "disk", "fresnel_zone_plate"])
@pytest.mark.parametrize("domain", ["counts", "amplitude"])
def test_patterns_with_their_centre_in_the_corner_are_recognised(probe, domain):
    scan = ps.simulate_scan(num_positions=64, N=32, probe=probe, seed=1)
    patterns = scan.patterns.read(EVERY)
    if domain == "amplitude":
        patterns = np.sqrt(patterns, dtype=np.float32)
    scan = with_patterns(scan, patterns, measurement_domain=domain)
    assert not is_corner_centred(scan)
    cornered = with_patterns(scan, np.fft.ifftshift(patterns, axes=(-2, -1)))
    assert is_corner_centred(cornered)


def test_quadrants_are_swapped_back_with_their_mask(tiny_scan):
    patterns = tiny_scan.patterns.read(EVERY)
    mask = np.zeros((16, 16), bool)
    mask[3, 5] = True
    cornered = with_patterns(
        tiny_scan,
        np.fft.ifftshift(patterns, axes=(-2, -1)),
        bad_pixels=np.fft.ifftshift(mask),
    )
    back = preprocess(cornered, Preprocessing(swap_quadrants=True))
    np.testing.assert_array_equal(back.patterns.read(EVERY), patterns)
    np.testing.assert_array_equal(back.bad_pixels, mask)


def test_a_build_warns_of_patterns_centred_in_the_corner(tiny_scan, tmp_path, caplog):
    ps.build_group_store(tiny_scan, tmp_path / "right.zarr")
    assert "--swap_quadrants" not in caplog.text
    cornered = np.fft.ifftshift(tiny_scan.patterns.read(EVERY), axes=(-2, -1))
    ps.build_group_store(with_patterns(tiny_scan, cornered), tmp_path / "cornered.zarr")
    assert "--swap_quadrants" in caplog.text


def test_a_build_warns_of_dark_patterns_by_their_numbers(tiny_scan, tmp_path, caplog):
    patterns = tiny_scan.patterns.read(EVERY)
    patterns[[7, 40]] = 0
    dark = with_patterns(tiny_scan, patterns)
    whole = with_patterns(tiny_scan, tiny_scan.patterns.read(EVERY))
    ps.build_group_store([whole, dark], tmp_path / "dark.zarr")
    (message,) = [m for m in caplog.messages if "hardly any light" in m]
    assert "2 of 64 patterns hold hardly any light, numbers 7,40." in message
    assert "--leave_out '[7,40]'" in message


def test_patterns_are_left_out_with_their_positions(tiny_scan):
    left = preprocess(tiny_scan, Preprocessing(leave_out=(40, 7, 7)))
    kept = np.delete(EVERY, [7, 40])
    np.testing.assert_array_equal(left.positions, tiny_scan.positions[kept])
    np.testing.assert_array_equal(left.patterns.read(np.arange(62)), tiny_scan.patterns.read(kept))
    with pytest.raises(DataContractError, match="no pattern 64 to leave out; .* 0 to 63"):
        preprocess(tiny_scan, Preprocessing(leave_out=(64,)))
    with pytest.raises(DataContractError, match="leaves no pattern"):
        preprocess(tiny_scan, Preprocessing(leave_out=tuple(range(64))))
