"""Attention in the CNN's encoder against numbers made by running the existing PyTorch backend.

Its parameter number i holds w[k] = sin(0.7 k + i) · √(2 / fan), or 0.01 · sin(0.7 k + i) in one
dimension; the order is that of its layers.
"""

import itertools
from pathlib import Path

import numpy as np
import torch

from ptychostream.config import ModelConfig
from ptychostream.models.generators import build_generator
from ptychostream.models.generators.autoencoder import BlockAttention

NUMBERS = Path(__file__).parents[1] / "data" / "attention_forward.npz"

#: The factor that the existing backend was given for its input.
INPUT_SCALE = 1.7


def _layers_in_order(network):
    for pair, attention in zip(network.encoder, network.attention, strict=True):
        yield from (pair.first, pair.second, attention.squeeze, attention.expand, attention.pixels)
    for decoder in (network.amplitude, network.phase):
        for level in decoder.levels:
            yield from (level.first, level.second)
        yield from (decoder.inner, decoder.outer.first, decoder.outer.second, decoder.outer_last)


def _fill(network):
    weights = itertools.chain.from_iterable(
        layer.parameters() for layer in _layers_in_order(network)
    )
    for number, weight in enumerate(weights):
        wave = np.sin(0.7 * np.arange(weight.numel()) + number).reshape(weight.shape)
        size = np.sqrt(2 / np.prod(weight.shape[1:])) if weight.ndim > 1 else 0.01
        weight.data = torch.tensor(size * wave, dtype=torch.float32)


def test_outputs_with_attention_are_the_existing_backends():
    config = ModelConfig(gridsize=2, n_filters_scale=1, amp_activation="swish", cbam_encoder=True)
    network = build_generator(config)
    assert sum(p.numel() for p in network.parameters()) == 592_580
    _fill(network)
    with np.load(NUMBERS) as numbers:
        measured, amplitude, phase = numbers["X"], numbers["amplitude"], numbers["phase"]
    x = INPUT_SCALE * torch.tensor(measured)
    for block, attention in zip(network.encoder, network.attention, strict=True):
        x = torch.nn.functional.max_pool2d(attention(block(x)), 2)
    for decoder, expected in ((network.amplitude, amplitude), (network.phase, phase)):
        with torch.no_grad():
            image = decoder(x)[:, :, ::2, 1::2].numpy()
        np.testing.assert_allclose(image, expected, atol=1e-5 * np.abs(expected).max())


def test_attention_only_ever_weakens():
    torch.manual_seed(0)
    x = torch.randn(2, 32, 8, 8)
    weighed = BlockAttention(32)(x)
    assert (weighed.abs() <= x.abs()).all()
    assert (weighed.abs() < 0.9 * x.abs()).any()
