import json

import numpy as np
import pytest
from scipy.ndimage import gaussian_filter
from scipy.ndimage import shift as spline_shift

from ptychostream.errors import DataContractError
from ptychostream.evaluation import (
    align_object,
    evaluate_object,
    fourier_ring_correlation,
    split_frc,
)
from ptychostream.evaluation.align import reference_on_grid
from ptychostream.evaluation.evaluate import largest_square
from ptychostream.evaluation.figures import draw_evaluation, draw_losses, draw_object


@pytest.fixture
def truth():
    rng = np.random.default_rng(0)
    parts = [gaussian_filter(rng.standard_normal((96, 80)), 2) for _ in range(2)]
    return ((1 + 0.5 * parts[0]) * np.exp(2j * parts[1])).astype(np.complex64)


@pytest.fixture
def coverage():
    coverage = np.zeros((96, 80), np.float32)
    coverage[10:86, 8:70] = 5
    return coverage


def _spoiled(truth, shift=(0.0, 0.0)):
    y, x = np.mgrid[:96, :80]
    moved = spline_shift(truth.astype(complex), (shift[1], shift[0]), order=3, mode="nearest")
    return 0.3 * np.exp(1j * (2.0 + 0.02 * x - 0.011 * y)) * moved


def test_phase_scale_ramp_and_shift_are_found_and_removed(truth, coverage):
    alignment = align_object(_spoiled(truth, (1.4, -0.7)), truth, coverage > 0)
    assert alignment.shift == pytest.approx((-1.4, 0.7), abs=0.05)
    assert alignment.ramp == pytest.approx((0.02, -0.011), abs=2e-4)
    assert abs(alignment.scale) == pytest.approx(1 / 0.3, rel=0.01)
    inner = (slice(14, 80), slice(12, 66))
    assert np.abs(alignment.object - truth)[inner].max() < 0.02


def test_a_spoiled_truth_is_perfect_and_a_flat_object_is_not(truth, coverage):
    perfect = evaluate_object(_spoiled(truth), truth, coverage).metrics
    assert perfect["phase_correlation"] > 0.9999
    assert perfect["amplitude_ssim"] > 0.999
    assert perfect["nrmse"] < 1e-3
    assert perfect["frc_half_bit"] == 0.5
    flat = evaluate_object(np.ones_like(truth), truth, coverage).metrics
    assert flat["amplitude_spread_ratio"] < 0.01
    assert abs(flat["phase_correlation"]) < 0.5
    assert flat["phase_rmse"] == pytest.approx(np.angle(truth)[coverage > 0].std(), rel=0.1)


def test_a_mirrored_object_is_far_from_perfect(truth, coverage):
    for mirrored in (truth[:, ::-1], truth[::-1], truth.conj()):
        metrics = evaluate_object(mirrored, truth, coverage).metrics
        assert metrics["phase_correlation"] < 0.5


def test_a_shift_counts_when_it_is_not_removed(truth, coverage):
    shifted = np.roll(truth, 2, axis=1)
    kept = evaluate_object(shifted, truth, coverage, register=False).metrics
    removed = evaluate_object(shifted, truth, coverage).metrics
    assert kept["phase_correlation"] < 0.9 < removed["phase_correlation"]
    assert removed["shift_px"] == pytest.approx([-2, 0], abs=0.05)


def test_known_noise_gives_the_known_error(truth, coverage):
    rng = np.random.default_rng(1)
    noisy = truth + 0.02 * (
        rng.standard_normal(truth.shape) + 1j * rng.standard_normal(truth.shape)
    )
    metrics = evaluate_object(noisy, truth, coverage, register=False).metrics
    assert metrics["amplitude_rmse"] == pytest.approx(0.02, rel=0.03)
    inside = np.abs(truth)[coverage > 0]
    assert metrics["amplitude_psnr"] == pytest.approx(
        20 * np.log10(np.ptp(inside) / metrics["amplitude_rmse"])
    )


def test_the_larger_array_is_cropped_at_its_far_edges(truth, coverage):
    larger = np.pad(truth, ((0, 7), (0, 3)))
    assert (
        evaluate_object(larger, truth, np.pad(coverage, ((0, 7), (0, 3)))).metrics["nrmse"] < 1e-6
    )


def test_too_little_coverage_and_values_that_are_not_numbers_are_refused(truth, coverage):
    with pytest.raises(DataContractError, match="only 0 pixels"):
        evaluate_object(truth, truth, 0 * coverage)
    broken = truth.copy()
    broken[40, 40] = np.nan
    with pytest.raises(DataContractError, match="NaN"):
        evaluate_object(broken, truth, coverage)


def test_frc_falls_where_noise_takes_over():
    rng = np.random.default_rng(0)
    image = gaussian_filter(rng.standard_normal((128, 128)), 2).astype(complex)
    noise = [0.05 * rng.standard_normal((128, 128)) for _ in range(2)]
    frc = fourier_ring_correlation(image + noise[0], image + noise[1])
    assert frc.correlation[:5].min() > 0.95
    assert abs(frc.correlation[-15:].mean()) < 0.1
    assert 0.05 < frc.crossing(frc.half_bit) < 0.3
    assert fourier_ring_correlation(image, image).crossing(1 / 7) == 0.5


def test_the_largest_square_lies_inside():
    region = np.zeros((50, 60), bool)
    region[5:45, 10:40] = True
    rows, columns = largest_square(region)
    assert (rows.stop - rows.start, columns.stop - columns.start) == (30, 30)
    assert region[rows, columns].all()


def test_pictures_are_drawn(truth, coverage, tmp_path):
    drawn = draw_object(truth, coverage, tmp_path, pixel_size_m=6e-9)
    drawn.append(
        draw_losses({"train_loss": [3.0, 2.0], "val_loss": [3.5, 2.5]}, tmp_path / "l.png")
    )
    drawn.append(draw_evaluation(evaluate_object(truth, truth, coverage), tmp_path / "e.png"))
    assert [p.name for p in drawn] == [
        "amplitude.png",
        "phase.png",
        "coverage.png",
        "l.png",
        "e.png",
    ]
    for path in drawn:
        assert path.read_bytes().startswith(b"\x89PNG")


def test_equal_images_have_no_finite_psnr_and_say_so_without_infinity(truth, coverage):
    flat = evaluate_object(truth, truth, coverage, register=False).metrics
    assert flat["amplitude_psnr"] is None or np.isfinite(flat["amplitude_psnr"])
    json.dumps(flat, allow_nan=False)


@pytest.mark.parametrize("origin", [(0.0, 0.0), (-7.0, 3.0), (11.0, -5.0)])
@pytest.mark.parametrize("theirs", [(0.0, 0.0), (4.0, -6.0)])
def test_a_reference_lies_where_its_origin_says(truth, origin, theirs):
    """Both are cut out of one plane, whose pixel (20, 20) is position (0, 0)."""
    plane = np.pad(truth, 20)

    def cut(first, shape):
        top, left = int(first[1]) + 20, int(first[0]) + 20
        return plane[top : top + shape[0], left : left + shape[1]]

    obj, reference = cut(origin, (70, 60)), cut(theirs, (80, 50))
    found, part = reference_on_grid(reference, theirs, origin, obj.shape)
    np.testing.assert_array_equal(obj[part], found)
    assert found.size > 30 * 30


def test_a_reference_between_pixels_is_shifted_and_one_elsewhere_is_refused(truth):
    found, part = reference_on_grid(truth, (0.5, 0.25), (0.0, 0.0), truth.shape)
    there = spline_shift(truth.astype(complex), (0.25, 0.5), order=3, mode="nearest")
    inner = (slice(5, 80), slice(5, 70))
    assert np.abs(found[inner] - there[part][inner]).max() < 0.02
    with pytest.raises(DataContractError, match="do not overlap"):
        reference_on_grid(truth, (500.0, 0.0), (0.0, 0.0), truth.shape)


def test_halves_agree_up_to_where_their_noise_begins(truth, coverage):
    rng = np.random.default_rng(0)

    def frc(level):
        noise = [
            level * (rng.standard_normal(truth.shape) + 1j * rng.standard_normal(truth.shape))
            for _ in range(2)
        ]
        return split_frc(truth + noise[0], truth + noise[1], coverage > 0, coverage)

    fine, coarse = frc(0.01), frc(0.2)
    assert coarse.crossing(coarse.half_bit) < 0.8 * fine.crossing(fine.half_bit)
    assert split_frc(truth, truth, coverage > 0, 0 * coverage) is None
    assert (
        split_frc(truth[:12, :12], truth[:12, :12], coverage[:12, :12] >= 0, 9 + coverage[:12, :12])
        is None
    )
