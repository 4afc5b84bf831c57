"""What amplitudes ask of waves is the slope of their misfit, and nothing where they are met."""

import torch

from ptychostream.models.generators.first_step import first_step
from ptychostream.physics import wave_change


def _waves():
    torch.manual_seed(0)
    return torch.randn(2, 3, 2, 8, 8, dtype=torch.complex128)


def _amplitude(waves):
    spectrum = torch.fft.fft2(waves, norm="ortho")
    return spectrum.abs().square().sum(dim=2).sqrt()


def test_waves_that_explain_the_amplitudes_stay_as_they_are():
    waves = _waves()
    assert wave_change(waves, _amplitude(waves), None, 0.2).abs().max() < 1e-9


def test_without_distrust_it_is_the_steepest_descent_of_half_the_squared_misfit():
    waves = _waves().requires_grad_()
    measured = torch.rand(2, 3, 8, 8, dtype=torch.float64)
    known = (torch.rand(2, 1, 8, 8) > 0.2).double()
    misfit = 0.5 * ((_amplitude(waves) - measured) * known).square().sum()
    (slope,) = torch.autograd.grad(misfit, waves)
    change = wave_change(waves.detach(), measured, known, 0.0)
    torch.testing.assert_close(change, -slope, rtol=1e-6, atol=1e-8)


def test_distrust_holds_back_pixels_that_the_waves_do_not_light():
    flat = torch.ones(1, 1, 1, 8, 8, dtype=torch.complex128)  # lights one pixel of the detector
    measured = torch.ones(1, 1, 8, 8, dtype=torch.float64)
    kept = wave_change(flat, measured, None, 0.2)
    assert torch.fft.fft2(kept, norm="ortho")[..., 1:, 1:].abs().max() < 1e-4


def test_afirst_step_does_not_depend_on_bad_pixels_and_knows_an_empty_object():
    torch.manual_seed(0)
    probe = torch.randn(2, 2, 8, 8, dtype=torch.complex64)
    empty = torch.fft.fftshift(_amplitude(probe[:, None]), dim=(-2, -1)).float()
    good = torch.ones(2, 8, 8, dtype=torch.bool)
    good[:, 2, 3] = False
    for known in (None, good):
        level, change = first_step(0.7 * empty, probe, known)
        torch.testing.assert_close(level, torch.full((2, 1), 0.7))
        assert change.abs().max() < 1e-4
    measured = torch.rand(2, 3, 8, 8)
    spoilt = measured.clone()
    spoilt[:, :, 2, 3] = 1e3
    level, change = first_step(measured, probe, good)
    assert level.shape == (2, 3)
    again = first_step(spoilt, probe, good)
    assert torch.equal(level, again[0])
    assert torch.equal(change, again[1])
    assert not torch.allclose(change, first_step(measured, probe, None)[1])
