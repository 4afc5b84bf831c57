"""The CNN against the contract: parameter counts, and outputs with fixed weights.

`cnn_models.json` and `cnn_forward.npz` hold numbers made by running the existing TensorFlow
backend: each weight is w[k] = sin(0.7 k + i) · √(2 / fan), counted in the order given.
"""

import json
from dataclasses import fields
from pathlib import Path

import numpy as np
import pytest
import torch

from ptychostream.config import ModelConfig
from ptychostream.errors import ConfigurationError
from ptychostream.models.generators import build_generator
from ptychostream.models.generators.autoencoder import Decoder
from ptychostream.patches import extract_patches

DATA = Path(__file__).parents[1] / "data"
MODELS = json.loads((DATA / "cnn_models.json").read_text())
INTENSITY_SCALE = 31.25
with np.load(DATA / "cnn_forward.npz") as numbers:
    WITH_OUTPUTS = sorted(key.removesuffix("_X") for key in numbers if key.endswith("_X"))


def _config(tag: str) -> ModelConfig:
    known = {item.name for item in fields(ModelConfig)}
    given = {k: v for k, v in MODELS[tag]["config"].items() if k in known}
    return ModelConfig(**({"n_filters_scale": 1} | given))


def _convolutions(decoder: Decoder) -> list[torch.nn.Conv2d]:
    """In the order in which the existing backend creates a decoder's layers."""
    levels = [layer for pair in decoder.levels for layer in (pair.first, pair.second)]
    if not decoder.pad_object:
        return [decoder.full_last, *levels, decoder.full.first, decoder.full.second]
    if not decoder.probe_big:
        return [decoder.inner, *levels]
    return [
        decoder.inner,
        decoder.outer_last,
        *levels,
        decoder.outer.first,
        decoder.outer.second,
    ]


def _fill(layer: torch.nn.Conv2d, start: int) -> None:
    outputs, inputs = layer.weight.shape[:2]
    k = np.arange(9 * inputs * outputs)
    kernel = np.sin(0.7 * k + start) * np.sqrt(2 / (9 * inputs))
    kernel = kernel.reshape(3, 3, inputs, outputs).transpose(3, 2, 0, 1)
    bias = 0.01 * np.sin(0.7 * np.arange(outputs) + start + 1)
    layer.weight.data = torch.tensor(kernel, dtype=torch.float32)
    layer.bias.data = torch.tensor(bias, dtype=torch.float32)


@pytest.mark.parametrize("tag", MODELS)
def test_parameter_counts_are_the_contracts(tag):
    network = build_generator(_config(tag))
    assert sum(p.numel() for p in network.parameters()) == MODELS[tag]["parameters"]


@pytest.mark.parametrize("tag", WITH_OUTPUTS)
def test_outputs_are_the_contracts(tag):
    with np.load(DATA / "cnn_forward.npz") as numbers:
        amplitude, expected = numbers[f"{tag}_X"], numbers[f"{tag}_obj"]
    network = build_generator(_config(tag))
    layers = [layer for pair in network.encoder for layer in (pair.first, pair.second)]
    layers += _convolutions(network.amplitude) + _convolutions(network.phase)
    starts = dict(MODELS[tag]["order"])
    names = sorted(starts, key=lambda name: int(name.split("_")[1]) if "_" in name else 0)
    for name, layer in zip(names, layers, strict=True):
        _fill(layer, starts[name])
    scaled = torch.tensor(amplitude).movedim(-1, 1) / INTENSITY_SCALE
    with torch.no_grad():
        patches = network.decode(scaled).movedim(1, -1).numpy()
    np.testing.assert_allclose(patches[:, ::2, 1::2], expected, atol=1e-5)


def test_a_groups_single_patch_is_cut_at_its_members():
    config = ModelConfig(gridsize=2, n_filters_scale=1, object_big=False)
    network = build_generator(config)
    relative = torch.tensor([[3.0, 0.0], [-3.0, 0.0], [0.0, 2.0], [0.0, -2.0]])[None, :, None]
    amplitude = torch.rand(1, 4, 64, 64)
    probe = torch.ones(1, 1, 64, 64, dtype=torch.complex64)
    with torch.no_grad():
        patches = network(amplitude, probe, relative)
        single = network.decode(amplitude)[0, 0]
    assert patches.shape == (1, 4, 64, 64)
    # Centre minus member is +3 in x: the member lies to the left.
    expected = extract_patches(single, torch.tensor([[29.0, 32.0]]), 64)[0]
    torch.testing.assert_close(patches[0, 0], expected)


def test_sizes_without_a_contract_are_refused():
    with pytest.raises(ConfigurationError, match="64, 128 and 256, not 96"):
        build_generator(ModelConfig(N=96))


def test_unknown_architectures_are_refused_with_the_known_ones():
    with pytest.raises(ConfigurationError, match="'resnet'; there are cnn, fast, ffno"):
        build_generator(ModelConfig(architecture="resnet"))
