"""Write the weights of our CNN as those of PtychoPINN's Keras network."""

import itertools
from pathlib import Path

import numpy as np
import torch
from torch import nn

from ptychostream.errors import ConfigurationError
from ptychostream.hdf5_files import whole_hdf5
from ptychostream.models.generators.autoencoder import Autoencoder
from ptychostream.persistence.bundle import ModelBundle

#: Ends of a decoder in the order of Keras's layers, those that a network has.
_ENDS = ("outer.first", "outer.second", "full.first", "full.second")
_LAST = ("outer_last", "full_last", "inner")


def export_weights(bundle: ModelBundle, path: Path) -> Path:
    """Write weights that the Keras model of the same configuration loads.

    In PtychoPINN `model.load_weights(path)` reads them, for `autoencoder` and `diffraction_to_obj`.

    `path`: file to write, ending in `.weights.h5`; an existing one is replaced.
    """
    generator = bundle.model.generator
    if not isinstance(generator, Autoencoder):
        raise ConfigurationError(
            f"architecture {bundle.config.model.architecture!r} has no counterpart in Keras; only "
            "'cnn' does"
        )
    for name, value in (
        ("cbam_encoder", False),
        ("border_channels", "four"),
        ("cnn_input", "amplitude"),
    ):
        found = getattr(bundle.config.model, name)
        if found != value:
            raise ConfigurationError(
                f"a network with {name}={found!r} has no counterpart in Keras; train with {value!r}"
            )
    path.parent.mkdir(parents=True, exist_ok=True)
    with whole_hdf5(path) as file:
        for number, name in enumerate(_in_keras_order(generator)):
            layer = generator.get_submodule(name)
            assert isinstance(layer, nn.Conv2d)
            assert layer.bias is not None
            group = file.create_group(f"layers/conv2d{f'_{number}' if number else ''}/vars")
            # PyTorch has output, input, rows, columns; Keras rows, columns, input, output.
            group["0"] = _numpy(layer.weight.permute(2, 3, 1, 0))
            group["1"] = _numpy(layer.bias)
    return path


def _in_keras_order(network: Autoencoder) -> list[str]:
    """List our layers as Keras sorts its own: by depth from the end, both decoders in turn."""
    decoder = network.amplitude
    pairs = [f"{i}.{which}" for i in range(len(decoder.levels)) for which in ("first", "second")]
    present = {name for name, _ in decoder.named_modules()}
    both = [f"levels.{name}" for name in pairs]
    both += [name for name in (*_ENDS, *_LAST) if name in present]
    encoder = [
        f"encoder.{i}.{which}" for i in range(len(network.encoder)) for which in ("first", "second")
    ]
    return encoder + [
        f"{part}.{name}" for name, part in itertools.product(both, ("amplitude", "phase"))
    ]


def _numpy(values: torch.Tensor) -> np.ndarray[tuple[int, ...], np.dtype[np.float32]]:
    return values.detach().cpu().contiguous().numpy()
