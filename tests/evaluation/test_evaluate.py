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


def test_no_frc_is_reported_where_the_middle_is_not_covered(truth, coverage, tmp_path):
    rng = np.random.default_rng(2)
    noisy = truth + 0.5 * (rng.standard_normal(truth.shape) + 1j * rng.standard_normal(truth.shape))
    assert evaluate_object(noisy, truth, coverage).metrics["frc_half_bit"] < 0.3
    coverage[42:54, 33:45] = 0
    evaluation = evaluate_object(noisy, truth, coverage)
    assert evaluation.frc is None
    for name in ("frc_half_bit", "frc_one_seventh", "frc_square"):
        assert evaluation.metrics[name] is None
    assert evaluation.metrics["nrmse"] > 0.3
    assert draw_evaluation(evaluation, tmp_path / "e.png").exists()


@pytest.mark.parametrize("edge", [14, 16])
def test_the_frc_needs_a_square_of_16_px(truth, coverage, edge):
    coverage[:, : 40 - edge // 2] = 0
    coverage[:, 40 + edge // 2 :] = 0
    # Makes the box wider than the square.
    coverage[10, 20:60] = 5
    evaluation = evaluate_object(truth, truth, coverage, register=False)
    if edge == 16:
        assert evaluation.metrics["frc_square"] == [40, 56, 32, 48]
        assert evaluation.metrics["frc_half_bit"] == 0.5
    else:
        assert evaluation.frc is None


def test_arrays_that_do_not_fit_or_hold_nothing_are_refused(truth, coverage):
    with pytest.raises(DataContractError, match=r"expected \(H, W\) of each"):
        evaluate_object(truth[None], truth, coverage)
    with pytest.raises(DataContractError, match=r"the coverage is \(95, 80\)"):
        evaluate_object(truth, truth, coverage[1:])
    with pytest.raises(DataContractError, match="the object is zero"):
        evaluate_object(np.where(coverage > 0, 0, truth), truth, coverage)
    with pytest.raises(DataContractError, match="the reference is zero"):
        evaluate_object(truth, 0 * truth, coverage)


def _disc(shape):
    y, x = np.ogrid[: shape[0], : shape[1]]
    return (y - 48) ** 2 + (x - 40) ** 2 < 30**2


def _plain_ssim(image, wanted, span):
    """Structural similarity of every pixel, by a 7 px square around it, mirrored at the edges."""
    one, two = (
        np.lib.stride_tricks.sliding_window_view(np.pad(part, 3, "symmetric"), (7, 7)).reshape(
            *part.shape, 49
        )
        for part in (image, wanted)
    )
    means = one.mean(-1), two.mean(-1)
    covariance = ((one - means[0][..., None]) * (two - means[1][..., None])).sum(-1) / 48
    c1, c2 = (0.01 * span) ** 2, (0.03 * span) ** 2
    top = (2 * means[0] * means[1] + c1) * (2 * covariance + c2)
    variances = one.var(-1, ddof=1) + two.var(-1, ddof=1)
    return top / ((means[0] ** 2 + means[1] ** 2 + c1) * (variances + c2))


def test_ssim_is_the_mean_of_the_local_similarity_over_the_region(truth):
    rng = np.random.default_rng(3)
    region = _disc(truth.shape)
    obj = np.where(region, truth + 0.1 * rng.standard_normal(truth.shape), 0.2)
    evaluation = evaluate_object(obj, truth, 5.0 * region, register=False)
    image, wanted = np.abs(evaluation.alignment.object), np.abs(truth.astype(complex))
    box = (slice(19, 78), slice(11, 70))
    similarity = _plain_ssim(image[box], wanted[box], np.ptp(wanted[region]))
    expected = similarity[region[box]].mean()
    assert evaluation.metrics["amplitude_ssim"] == pytest.approx(expected, abs=1e-9)
    assert abs(similarity.mean() - expected) > 0.01


@pytest.mark.parametrize("angle", [1.0, np.pi, -2.5])
def test_phase_figures_do_not_depend_on_the_phase_of_the_reference(truth, coverage, angle):
    rng = np.random.default_rng(4)
    obj = truth + 0.05 * rng.standard_normal(truth.shape)
    upright = truth * np.exp(-1j * np.angle(truth[coverage > 0].sum()))
    error = {
        a: evaluate_object(obj, upright * np.exp(1j * a), coverage, register=False).metrics
        for a in (0.0, angle)
    }
    for name in ("phase_rmse", "phase_correlation", "phase_ssim", "phase_psnr"):
        assert error[angle][name] == pytest.approx(error[0.0][name], rel=1e-5)
    assert error[angle]["phase_rmse"] < 0.1


def test_what_lies_outside_the_region_has_no_say_in_the_alignment(truth):
    region = _disc(truth.shape)
    y, x = np.mgrid[:96, :80]
    spoiled = 0.3 * np.exp(1j * (2.0 + 0.02 * x - 0.011 * y)) * truth.astype(complex)
    outside = 5 * np.exp(1j * (0.4 - 0.5 * x + 0.3 * y)) * truth
    obj = np.where(region, spoiled, outside)
    alignment = align_object(obj, truth, region, register=False)
    assert alignment.ramp == pytest.approx((0.02, -0.011), abs=1e-6)
    assert alignment.scale == pytest.approx(np.exp(-2j) / 0.3, rel=1e-5)
    np.testing.assert_allclose(alignment.object[region], truth[region], atol=1e-5)


def test_frc_and_its_half_bit_are_those_of_plain_sums_over_rings():
    rng = np.random.default_rng(5)
    edge = 24
    one, two = rng.standard_normal((2, edge, edge)) + 1j * rng.standard_normal((2, edge, edge))
    two = two + one
    sine = np.sin(np.pi * np.arange(edge) / (edge - 1)) ** 2
    first, second = (np.fft.fft2((i - i.mean()) * np.outer(sine, sine)) for i in (one, two))
    step = np.fft.fftfreq(edge, 1 / edge)
    radius = np.rint(np.sqrt(step[:, None] ** 2 + step**2))
    frc = fourier_ring_correlation(one, two)
    # The first two rings hold little but the mean, which is subtracted, and the window.
    np.testing.assert_allclose(frc.frequency, np.arange(2, 13) / edge)
    for ring, correlation, half_bit in zip(
        range(2, 13), frc.correlation, frc.half_bit, strict=True
    ):
        a, b = first[radius == ring], second[radius == ring]
        powers = (np.abs(a) ** 2).sum() * (np.abs(b) ** 2).sum()
        assert correlation == pytest.approx((a * b.conj()).sum().real / powers**0.5, abs=1e-12)
        independent = (radius == ring).sum() / 2
        # Eq. (17) of van Heel & Schatz with half a bit in all, a quarter in each half.
        noise = 2**0.5 - 1
        top = noise / 2 + (2 * (noise / 2) ** 0.5 + 1) / independent**0.5
        low = 1 + noise / 2 + 2 * (noise / 2) ** 0.5 / independent**0.5
        assert half_bit == pytest.approx(top / low, abs=2e-4)
