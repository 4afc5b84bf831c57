import numpy as np
import pytest
import torch
from scans import gaussian_beam, small_scan

from ptychostream.geometry import ObjectGrid
from ptychostream.solver.boxes import Box
from ptychostream.solver.canvas import Canvas
from ptychostream.solver.layout import PatchLayout
from ptychostream.solver.light import light_of_scan
from ptychostream.solver.misfit import PhotonNoise, poisson_deviance
from ptychostream.solver.object_step import object_step
from ptychostream.solver.position_step import geometry_moves, position_moves
from ptychostream.solver.prior import laplacian, prior_strength, roughness
from ptychostream.solver.probe_step import add_modes, order_modes
from ptychostream.solver.residual import residual


def _layout(number=7, edge=16, seed=0):
    positions = np.random.default_rng(seed).uniform(20, 60, (number, 2))
    return PatchLayout(positions, edge)


def test_adding_patches_is_the_adjoint_of_cutting_them():
    layout, generator = _layout(), torch.Generator().manual_seed(0)
    canvas = torch.randn(layout.shape, dtype=torch.complex64, generator=generator)
    patches = torch.randn(7, 16, 16, dtype=torch.complex64, generator=generator)
    corner, _ = layout.corners(torch.arange(7))
    back = torch.zeros_like(canvas)
    layout.add(back, corner, patches)
    left = torch.vdot(layout.cut(canvas, corner).flatten(), patches.flatten())
    right = torch.vdot(canvas.flatten(), back.flatten())
    torch.testing.assert_close(left, right, rtol=1e-4, atol=1e-3)


def test_a_ramp_moves_a_beam_by_a_fraction_of_a_pixel():
    layout = _layout(1)
    beam = torch.from_numpy(gaussian_beam(width=2.0)).to(torch.complex64)
    fraction = torch.tensor([[0.3, -0.45]])
    moved = torch.fft.ifft2(torch.fft.fft2(beam) * layout.ramps(fraction))[0, 0].numpy()
    along = np.arange(16) - 8
    squared = (along[:, None] + 0.45) ** 2 + (along - 0.3) ** 2
    expected = np.exp(-squared / (2 * 2.0**2) + 1j * 0.05 * squared)
    np.testing.assert_allclose(moved, expected, atol=2e-3)


def test_the_light_is_the_sum_of_the_beams_power():
    layout = _layout(5)
    probe = torch.from_numpy(gaussian_beam()).to(torch.complex64)
    light = torch.zeros(layout.shape)
    light_of_scan(layout, probe, light)
    expected = np.zeros(layout.shape)
    corner, _ = layout.corners(torch.arange(5))
    for x, y in corner.tolist():
        expected[y : y + 16, x : x + 16] += np.abs(probe[0].numpy()) ** 2
    np.testing.assert_allclose(light, expected, atol=1e-5)


@pytest.mark.parametrize("brightness", [0.0, 0.5, 1.0])
def test_nothing_is_corrected_where_the_rate_is_what_was_measured(brightness):
    counts = torch.tensor([[[100.0, 1e4]]])
    found = residual(counts, counts.clone(), brightness=brightness, trust=0.1)
    assert found.abs().max() < 1e-3


@pytest.mark.parametrize(("rate", "trust"), [(5.0, 0.0), (0.3, 0.2), (0.01, 0.2)])
def test_the_score_is_right_on_average_where_the_modulus_is_biased(rate, trust):
    rate = torch.full((400_000, 1, 1), rate)
    counts = torch.poisson(rate, generator=torch.Generator().manual_seed(1))
    found = residual(counts, rate.clone(), brightness=0.0, trust=trust)
    modulus = residual(counts, rate.clone(), brightness=1.0, trust=trust)
    assert abs(float(found.mean())) < 0.01
    assert float(modulus.mean()) < -0.02


def test_pixels_that_the_model_does_not_light_are_held_back():
    counts, rate = torch.full((1, 1, 1), 1e4), torch.full((1, 1, 1), 1e-2)
    trusting, wary = (
        float(residual(counts, rate.clone(), brightness=1.0, trust=t)) for t in (0.0, 0.2)
    )
    assert wary < 1e-3 * trusting


def test_expected_misfits_agree_with_draws():
    rng, noise = np.random.default_rng(0), PhotonNoise()
    for rate in (0.01, 0.5, 7.0, 90.0):
        n = rng.poisson(rate, 400_000)
        modulus = np.abs(np.sqrt(n) - np.sqrt(rate)).mean()
        each = 2 * (np.where(n > 0, n * np.log(np.maximum(n, 1) / rate), 0) - n + rate)
        assert float(noise.modulus(np.array(rate))) == pytest.approx(modulus, rel=0.02)
        assert float(noise.deviance(np.array(rate))) == pytest.approx(each.mean(), rel=0.02)


def test_the_deviance_of_the_truth_is_one_for_a_bright_pixel():
    rate = torch.full((1, 300, 300), 500.0)
    counts = torch.poisson(rate, generator=torch.Generator().manual_seed(0))
    assert float(poisson_deviance(counts, rate, None) / 300**2) == pytest.approx(1, rel=0.02)


def _canvas(shape, seed=0):
    layout = PatchLayout(np.array([[20.0, 20.0]]), 16)
    layout.whole = layout.box = Box(0, 0, shape[1], shape[0])
    canvas = Canvas(layout)
    generator = torch.Generator().manual_seed(seed)
    canvas.ahead.copy_(1 + 0.1 * torch.randn(shape, dtype=torch.complex64, generator=generator))
    canvas.pull.copy_(torch.randn(shape, dtype=torch.complex64, generator=generator))
    canvas.root_light.copy_(1 + torch.rand(shape, generator=generator))
    return canvas


def test_the_step_solves_the_equations_of_light_and_prior():
    canvas, prior = _canvas((48, 40)), 0.7
    object_step(canvas, share=0.25, momentum=0.0, step=1.0, prior=prior)
    root, rough = canvas.root_light.double(), roughness(48, 40, torch.device("cpu")).double()

    def curved(image):
        """√L λ R √L of an image: the prior's part of the curvature."""
        return root * torch.fft.ifft2(prior * rough * torch.fft.fft2(root * image))

    change = canvas.velocity.to(torch.complex128)
    gradient = canvas.pull / 0.25 - curved((canvas.ahead - 1).to(torch.complex128))
    torch.testing.assert_close(root**2 * change + curved(change), gradient, rtol=1e-3, atol=1e-3)


def test_a_large_canvas_in_parts_moves_as_one(monkeypatch):
    whole, parted = _canvas((210, 190)), _canvas((210, 190))
    object_step(whole, share=0.5, momentum=0.7, step=0.7, prior=0.5)
    monkeypatch.setattr("ptychostream.solver.object_step._WHOLE", 0)
    monkeypatch.setattr("ptychostream.solver.object_step._PART", 64)
    object_step(parted, share=0.5, momentum=0.7, step=0.7, prior=0.5)
    # At the rim one wraps around and the other does not.
    inside = slice(16, -16), slice(16, -16)
    torch.testing.assert_close(whole.object[inside], parted.object[inside], rtol=0, atol=2e-4)


def test_the_laplacian_has_the_roughness_of_its_frequency():
    x = torch.arange(64.0)
    wave = torch.exp(2j * torch.pi * (5 * x[:, None] + 3 * x) / 64)
    found = laplacian(wave).abs().square()
    expected = roughness(64, 64, torch.device("cpu"))[5, 3]
    torch.testing.assert_close(found, expected.expand_as(found), rtol=1e-3, atol=1e-5)


def test_a_rougher_object_gets_a_weaker_prior():
    weak, strong = (prior_strength(0.1, lit_pixels=1000, rough=r) for r in (1e6, 1e3))
    assert weak < strong / 100


def test_ordering_modes_keeps_the_patterns_and_makes_them_orthogonal():
    generator = torch.Generator().manual_seed(3)
    modes = torch.randn(3, 16, 16, dtype=torch.complex64, generator=generator)
    ordered, _ = order_modes(modes, torch.zeros_like(modes))
    flat = ordered.flatten(1)
    products = (flat @ flat.conj().T).abs()
    assert (products - torch.diag(products.diagonal())).max() < 1e-3 * products.max()
    assert (products.diagonal().diff() <= 0).all()
    power = [torch.fft.fft2(m).abs().square().sum(0) for m in (modes, ordered)]
    torch.testing.assert_close(power[0], power[1], rtol=1e-3, atol=1e-2)


def test_added_modes_are_orthogonal_to_the_first_and_weaker():
    probe = torch.from_numpy(gaussian_beam()).to(torch.complex64)
    modes = add_modes(probe, 3)
    power = modes.abs().square().sum((1, 2))
    torch.testing.assert_close(power[1:], 0.1 * power[:1].expand(2), rtol=1e-3, atol=1e-4)
    assert torch.vdot(modes[1].flatten(), modes[0].flatten()).abs() < 1e-3 * power[0]


def test_moves_are_bounded_and_have_no_common_part():
    sums = torch.tensor([[2.0, 1.0, 0.1, 5.0, 0.2], [2.0, 1.0, -0.1, -0.1, 0.3]])
    moves = position_moves(sums, longest=0.5)
    torch.testing.assert_close(moves.sum(0), torch.zeros(2, dtype=torch.float64))
    assert moves.abs().max() <= 1.0


def test_a_common_scale_of_all_positions_is_found_from_all_of_them():
    positions = torch.from_numpy(small_scan().positions)
    wanted = 0.02 * (positions - positions.mean(0))
    # Half of each move is seen.
    sums = torch.stack([torch.ones(81), torch.ones(81), torch.zeros(81), *wanted.T / 2], 1)
    found = geometry_moves(sums, positions, longest=10)
    torch.testing.assert_close(found, wanted, rtol=1e-3, atol=1e-4)


def test_the_canvas_is_laid_on_a_grid_and_flat_beyond():
    layout = PatchLayout(np.array([[20.0, 30.0]]), 16)
    canvas = Canvas(layout)
    canvas.object.fill_(2)
    found = canvas.on_grid(layout, ObjectGrid(60, 50))
    assert found[30, 20] == 2
    assert found[0, 49] == 1
