"""Shifts by a fraction of a pixel, against the definition in double precision."""

import numpy as np
import pytest
import torch

from ptychostream.stitching.interpolation import ShiftedWeight, shift_to_pixels
from ptychostream.stitching.weights import patch_weight


@pytest.fixture
def rng():
    return np.random.default_rng(0)


FRACTIONS = np.array([(0.0, 0.0), (0.25, -0.4), (-0.5, 0.1)])


def fourier(image, x, y):
    """Shift by the sum over all frequencies, as a real signal has them."""
    kernels = []
    for shift in (y, x):
        frequency = np.fft.fftfreq(len(image))
        spectrum = np.exp(-2j * np.pi * shift * frequency)
        spectrum[len(image) // 2] = np.cos(np.pi * shift)
        distance = np.subtract.outer(np.arange(len(image)), np.arange(len(image)))
        kernel = (spectrum * np.exp(2j * np.pi * distance[..., None] * frequency)).mean(-1)
        assert np.abs(kernel.imag).max() < 1e-12
        kernels.append(kernel.real)
    return kernels[0] @ image @ kernels[1].T


def bilinear(image, x, y):
    """Share each pixel among four."""
    shared = np.zeros((len(image) + 1,) * 2, image.dtype)
    shared[:-1, :-1] += (1 - y) * (1 - x) * image
    shared[:-1, 1:] += (1 - y) * x * image
    shared[1:, :-1] += y * (1 - x) * image
    shared[1:, 1:] += y * x * image
    return shared


@pytest.mark.parametrize(
    ("placement", "definition"), [("fourier", fourier), ("bilinear", bilinear)]
)
@pytest.mark.parametrize("kind", ["window", "measured"])
def test_a_weight_shifts_along_its_axes_as_it_does_as_a_whole(placement, definition, kind, rng):
    light = torch.as_tensor(rng.random((16, 16)), dtype=torch.float32)
    weight = patch_weight("uniform" if kind == "window" else light, light)
    moved = ShiftedWeight(weight, placement).at(torch.as_tensor(FRACTIONS).float())
    for one, (x, y) in zip(moved.numpy(), FRACTIONS, strict=True):
        expected = definition(weight.double().numpy(), x, y)
        assert one.shape == expected.shape
        np.testing.assert_allclose(one, expected, atol=2e-6)


@pytest.mark.parametrize("layers", [(), (2,)])
def test_bilinear_shares_are_those_of_the_definition(layers, rng):
    shape = (len(FRACTIONS), *layers, 8, 8)
    images = rng.normal(size=shape) + 1j * rng.normal(size=shape)
    moved = shift_to_pixels(
        torch.as_tensor(images).to(torch.complex64), torch.as_tensor(FRACTIONS).float(), "bilinear"
    )
    for one, image, (x, y) in zip(moved.numpy(), images, FRACTIONS, strict=True):
        for layer, original in zip(one.reshape(-1, 9, 9), image.reshape(-1, 8, 8), strict=True):
            np.testing.assert_allclose(layer, bilinear(original, x, y), atol=1e-6)


def test_a_fourier_shift_of_what_fades_out_is_a_move(rng):
    n = np.arange(32) - 16
    spot = np.exp(-(n[:, None] ** 2 + n**2) / 18) * np.exp(0.3j * n)
    moved = shift_to_pixels(
        torch.as_tensor(np.stack([spot] * len(FRACTIONS))).to(torch.complex64),
        torch.as_tensor(FRACTIONS).float(),
        "fourier",
    )
    for one, (x, y) in zip(moved.numpy(), FRACTIONS, strict=True):
        there = np.exp(-((n[:, None] - y) ** 2 + (n - x) ** 2) / 18) * np.exp(0.3j * (n - x))
        np.testing.assert_allclose(one, there, atol=1e-5)
