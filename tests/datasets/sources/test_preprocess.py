from dataclasses import replace

import numpy as np
import pytest
from tiny import untrained

import ptychostream as ps
from ptychostream.datasets.sources.preprocess import (
    ORIENTATIONS,
    Preprocessing,
    preprocess,
)
from ptychostream.errors import ConfigurationError, DataContractError
from ptychostream.evaluation import evaluate_object
from ptychostream.scan import ArrayPatterns

EVERY = np.arange(64)


@pytest.mark.parametrize("name", ORIENTATIONS)
def test_orientations_are_the_symmetries_of_the_square(tiny_scan, name):
    changed = preprocess(tiny_scan, Preprocessing(orientation=name))
    original = tiny_scan.patterns.read(EVERY)
    images = changed.patterns.read(EVERY)
    np.testing.assert_array_equal(images, ORIENTATIONS[name](original))
    inverse = {"rot90": "rot270", "rot270": "rot90"}.get(name, name)
    back = preprocess(changed, Preprocessing(orientation=inverse))
    np.testing.assert_array_equal(back.patterns.read(EVERY), original)
    assert changed.provenance["preprocessing"]["orientation"] == name


def test_the_eight_orientations_differ():
    image = np.arange(16).reshape(4, 4)
    assert len({turn(image).tobytes() for turn in ORIENTATIONS.values()}) == 8


@pytest.mark.parametrize("domain", ["counts", "amplitude"])
def test_binning_keeps_every_photon(tiny_scan, domain):
    scan = tiny_scan
    if domain == "amplitude":
        values = np.sqrt(scan.patterns.read(EVERY), dtype=np.float32)
        scan = replace(scan, patterns=ArrayPatterns(values), measurement_domain=domain)
    changed = preprocess(scan, Preprocessing(bin=2))
    assert changed.N == 8
    assert changed.probe.shape == (1, 8, 8)
    np.testing.assert_array_equal(changed.positions, scan.positions)
    power = 1 if domain == "counts" else 2
    before = (scan.patterns.read(EVERY).astype(float) ** power).sum(axis=(1, 2))
    after = (changed.patterns.read(EVERY).astype(float) ** power).sum(axis=(1, 2))
    np.testing.assert_allclose(after, before, rtol=1e-6)


@pytest.mark.parametrize(("mode", "factor"), [("crop", 0.5), ("pad", 1.5)])
def test_a_cropped_or_padded_scan_is_the_same_object_in_other_pixels(tmp_path, mode, factor):
    scan = ps.simulate_scan(
        object="bars_and_ellipses", probe="gaussian", num_positions=225, N=32, step=3, seed=2
    )
    edge = int(32 * factor)
    changed = preprocess(scan, Preprocessing(**{mode: edge}))
    assert changed.N == edge
    np.testing.assert_allclose(changed.positions, scan.positions * factor)
    # Probe and patterns still belong together: the physics alone finds the object guess.
    store = ps.build_group_store(changed, tmp_path / "s.zarr")
    config = ps.TrainingConfig(
        model=ps.ModelConfig(N=edge, gridsize=2, architecture="unrolled"), neighbor_count=6
    )
    bundle = untrained(config, store)
    result = ps.reconstruct(bundle, store, passes=4)
    metrics = evaluate_object(
        result.object, store.object_guess, result.coverage, register=False
    ).metrics
    assert metrics["phase_correlation"] > 0.9
    assert metrics["scale_amplitude"] == pytest.approx(1, abs=0.1)


@pytest.mark.parametrize("how", ["zero", "inpaint", "keep"])
def test_bad_pixels_are_treated_as_asked_and_their_mask_is_kept(tiny_scan, how):
    values = tiny_scan.patterns.read(EVERY)
    mask = np.zeros((16, 16), bool)
    mask[3, 5] = mask[9, 9] = True
    hot = values.copy()
    hot[:, mask] = 10**6
    scan = replace(tiny_scan, patterns=ArrayPatterns(hot), bad_pixels=mask)
    changed = preprocess(scan, Preprocessing(bad_pixels=how, orientation="flip_x"))
    expected = np.roll(mask[:, ::-1], 1, axis=1)
    np.testing.assert_array_equal(changed.bad_pixels, expected)
    images = changed.patterns.read(EVERY)
    wanted = np.roll(values[:, :, ::-1], 1, axis=2)
    np.testing.assert_array_equal(images[:, ~expected], wanted[:, ~expected])
    filled = images[:, expected]
    if how == "zero":
        assert (filled == 0).all()
    elif how == "keep":
        assert (filled == 10**6).all()
    else:
        assert 0 < filled.max() < 3 * values.max()
    assert images.dtype == values.dtype


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"orientation": "rot45"}, ConfigurationError, "no orientation 'rot45'"),
        ({"bin": 0}, ConfigurationError, "bin=0"),
        ({"crop": 9}, ConfigurationError, "crop=9"),
        ({"bad_pixels": "hide"}, ConfigurationError, "'hide'"),
        ({"bin": 3}, DataContractError, "16 px can't be binned by 3"),
        ({"crop": 20}, DataContractError, "16 px can't be cropped to 20"),
        ({"pad": 10}, DataContractError, "pad=10 is less"),
    ],
)
def test_impossible_changes_are_refused(tiny_scan, options, error, message):
    with pytest.raises(error, match=message):
        preprocess(tiny_scan, Preprocessing(**options))


@pytest.mark.parametrize("dtype", [np.int16, np.int32, np.float32])
def test_binning_refuses_negative_counts_that_a_sum_would_hide(tiny_scan, dtype):
    values = tiny_scan.patterns.read(EVERY).astype(dtype)
    values[3, 5, 6] = -1
    scan = replace(tiny_scan, patterns=ArrayPatterns(values))
    with pytest.raises(DataContractError, match="holds -1.*flag such pixels"):
        preprocess(scan, Preprocessing(bin=2)).patterns.read(EVERY)
    mask = np.zeros((16, 16), bool)
    mask[5, 6] = True
    flagged = preprocess(replace(scan, bad_pixels=mask), Preprocessing(bin=2))
    binned = flagged.patterns.read(EVERY)
    assert flagged.bad_pixels[2, 3]
    good = values.copy()
    good[3, 5, 6] = 0
    expected = good.reshape(-1, 8, 2, 8, 2).sum(axis=(2, 4))
    np.testing.assert_array_equal(binned[:, ~flagged.bad_pixels], expected[:, ~flagged.bad_pixels])
    # As measured: what was signed stays so, and -1 does not become a huge number.
    assert binned[3, 2, 3] == expected[3, 2, 3] - 1


def test_binning_whole_amplitudes_adds_their_squares(tiny_scan):
    values = np.full((64, 16, 16), 200, np.uint8)
    scan = replace(tiny_scan, patterns=ArrayPatterns(values), measurement_domain="amplitude")
    binned = preprocess(scan, Preprocessing(bin=2)).patterns.read(EVERY)
    np.testing.assert_allclose(binned, 400.0, rtol=1e-6)


@pytest.mark.parametrize("name", ORIENTATIONS)
def test_orientations_leave_the_zero_frequency_where_it_is(name):
    image = np.zeros((16, 16))
    image[8, 8] = 1
    np.testing.assert_array_equal(ORIENTATIONS[name](image), image)
    # One pixel right of it, and two above: where the symmetry of the square takes them.
    image[8, 9], image[6, 8] = 2, 3
    right, above = {
        "identity": ((0, 1), (-2, 0)),
        "rot90": ((-1, 0), (0, -2)),
        "rot180": ((0, -1), (2, 0)),
        "rot270": ((1, 0), (0, 2)),
        "flip_x": ((0, -1), (-2, 0)),
        "flip_y": ((0, 1), (2, 0)),
        "transpose": ((1, 0), (0, -2)),
        "anti_transpose": ((-1, 0), (0, 2)),
    }[name]
    turned = ORIENTATIONS[name](image)
    assert turned[8 + right[0], 8 + right[1]] == 2
    assert turned[8 + above[0], 8 + above[1]] == 3
    stack = np.stack([image, 2 * image])
    np.testing.assert_array_equal(ORIENTATIONS[name](stack)[1], 2 * turned)


@pytest.mark.parametrize("factor", [2, 4])
def test_the_binned_probe_explains_the_binned_patterns(factor):
    scan = ps.simulate_scan(num_positions=16, N=64, probe="gaussian", seed=1, noise=False)
    changed = preprocess(scan, Preprocessing(bin=factor))
    patterns = np.sqrt(changed.patterns.read(np.arange(16)).astype(float))
    edge = changed.N
    obj = scan.object_guess
    corners = np.rint(changed.positions).astype(int) - edge // 2
    # To a fraction of a pixel: what matters here is where the pattern's centre lies.
    errors = []
    for pattern, (x, y) in zip(patterns, corners, strict=True):
        wave = changed.probe[0] * obj[y : y + edge, x : x + edge]
        model = np.abs(np.fft.fftshift(np.fft.fft2(np.fft.ifftshift(wave), norm="ortho")))
        centre_of = [
            (np.arange(edge) * (image**2).sum(axis=axis)).sum() / (image**2).sum()
            for image in (pattern, model)
            for axis in (0, 1)
        ]
        errors.append(np.subtract(centre_of[:2], centre_of[2:]))
    assert np.abs(np.mean(errors, axis=0)).max() < 0.05
