import numpy as np
import pytest
import torch
from tiny import dense_shift

from ptychostream.physics import exit_wave, fourier_shift, intensity, propagate_far_field


@pytest.fixture
def waves():
    generator = torch.Generator().manual_seed(0)
    return torch.randn(3, 2, 16, 16, dtype=torch.complex128, generator=generator)


def test_propagation_keeps_energy(waves):
    torch.testing.assert_close(intensity(propagate_far_field(waves)).sum(), intensity(waves).sum())


def test_propagation_is_the_fourier_sum(waves):
    edge = waves.shape[-1]
    at = np.arange(edge) - edge // 2
    # Zero frequency in the centre; the object plane's origin is its first pixel.
    kernel = np.exp(-2j * np.pi * np.outer(at, np.arange(edge)) / edge) / np.sqrt(edge)
    expected = kernel @ waves[0, 0].numpy() @ kernel.T
    np.testing.assert_allclose(propagate_far_field(waves)[0, 0], expected, atol=1e-12)


def test_exit_wave_names_both_sizes_when_they_differ():
    with pytest.raises(ValueError, match=r"\(8, 8\) px .* \(16, 16\) px"):
        exit_wave(torch.ones(8, 8, dtype=torch.complex64), torch.ones(1, 16, 16))


def test_shift_moves_content_towards_larger_x_and_y():
    image = torch.zeros(8, 8, dtype=torch.complex128)
    image[2, 3] = 1
    moved = fourier_shift(image, torch.tensor([2.0, 1.0], dtype=torch.float64))
    assert moved.abs().argmax() == 3 * 8 + 5


def test_shift_is_the_fourier_sum_and_its_own_inverse(waves):
    shift = torch.tensor([0.3, -0.8], dtype=torch.float64)
    moved = fourier_shift(waves, shift)
    np.testing.assert_allclose(moved[1, 1], dense_shift(waves[1, 1].numpy(), (0.3, -0.8)))
    torch.testing.assert_close(fourier_shift(moved, -shift), waves)
