import pytest
import torch

from ptychostream.training.losses import amplitude_mae, poisson_nll, total_variation, turned_mae


def test_poisson_nll_is_least_where_rate_equals_counts():
    counts = torch.tensor([[3.0, 7.0], [1.0, 20.0]])
    rate = counts.clone().requires_grad_()
    poisson_nll(rate, counts).backward()
    torch.testing.assert_close(rate.grad, torch.zeros(2, 2))
    assert poisson_nll(1.1 * counts, counts) > poisson_nll(counts, counts)


def test_poisson_nll_differs_from_the_exact_likelihood_by_a_constant():
    counts = torch.tensor([0.0, 2.0, 9.0], dtype=torch.float64)
    rates = [torch.full((3,), value, dtype=torch.float64) for value in (0.5, 4.0)]
    exact = [-torch.distributions.Poisson(r).log_prob(counts).mean() for r in rates]
    ours = [poisson_nll(r, counts) for r in rates]
    torch.testing.assert_close(ours[1] - ours[0], exact[1] - exact[0])


def test_a_rate_of_zero_is_finite():
    assert torch.isfinite(poisson_nll(torch.zeros(2, 2), torch.ones(2, 2)))


@pytest.mark.parametrize("loss", [poisson_nll, amplitude_mae])
def test_masked_pixels_do_not_count(loss):
    measured = torch.rand(1, 1, 4, 4) + 0.5
    mask = torch.ones(1, 4, 4, dtype=torch.bool)
    mask[0, 1, 2] = False
    hot = measured.clone()
    hot[..., 1, 2] = 1e6
    predicted = torch.rand(1, 1, 4, 4) + 0.5
    assert loss(predicted, measured, mask) == loss(predicted, hot, mask)
    assert loss(predicted, measured) != loss(predicted, hot)


def test_total_variation_is_the_sum_of_squared_steps():
    image = torch.tensor([[1.0 + 0j, 2.0 + 1j], [1.0, 0.0]], dtype=torch.complex64)
    steps = abs(1 + 1j) ** 2 + abs(-1) ** 2 + abs(0) ** 2 + abs(-2 - 1j) ** 2
    assert total_variation(image).item() == pytest.approx(steps / 4)


def test_labels_of_any_global_phase_and_beyond_the_light_teach_the_same():
    torch.manual_seed(0)
    true, patches = torch.randn(2, 3, 1, 8, 8, dtype=torch.complex128)
    light = torch.rand(3, 1, 8, 8).double()
    light[..., :2] = 0
    angle = 6 * torch.rand(3, 1, 1, 1).double()
    turned = true * torch.polar(torch.ones_like(angle), angle)
    turned[..., :2] = 5
    torch.testing.assert_close(turned_mae(patches, turned, light), turned_mae(patches, true, light))
    assert turned_mae(true, turned, light) < 1e-6
    assert turned_mae(patches, true, light) > 0.1
