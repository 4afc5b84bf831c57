"""The contract's network in Keras, with the layer names and creation order of `cnn_models.json`.

What stands around the network there (positions, reassembly) is a layer that passes the object on:
it has no weights.
"""

import numpy as np
import pytest

from ptychostream.config import ModelConfig

keras = pytest.importorskip("keras")
tf = pytest.importorskip("tensorflow")
layers = keras.layers

ENCODER = {64: (32, 64, 128), 128: (16, 32, 64, 128), 256: (8, 16, 32, 64, 128)}
DECODER = {64: (64, 32), 128: (128, 64, 32), 256: (256, 128, 64, 32)}


@keras.saving.register_keras_serializable("tests")
class IntensityScaler(layers.Layer):
    def __init__(self, scale=1.0, **kwargs):
        super().__init__(**kwargs)
        self.scale = scale

    def call(self, x):
        return x / self.scale

    def get_config(self):
        return {**super().get_config(), "scale": self.scale}


@keras.saving.register_keras_serializable("tests")
class ActivationLayer(layers.Layer):
    def __init__(self, kind="sigmoid", **kwargs):
        super().__init__(**kwargs)
        self.kind = kind

    def call(self, x):
        if self.kind == "phase":
            return np.pi * tf.tanh(x)
        return keras.activations.get(self.kind)(x)

    def get_config(self):
        return {**super().get_config(), "kind": self.kind}


@keras.saving.register_keras_serializable("tests")
class CenterMaskLayer(layers.Layer):
    def call(self, x):
        edge = x.shape[1]
        mask = np.ones((1, edge, edge, 1), np.float32)
        mask[:, edge // 4 : -edge // 4, edge // 4 : -edge // 4] = 0
        return tf.zeros_like(x[..., :1]) + mask


@keras.saving.register_keras_serializable("tests")
class CombineComplexLayer(layers.Layer):
    def call(self, amplitude, phase):
        return tf.complex(amplitude * tf.cos(phase), amplitude * tf.sin(phase))

    def compute_output_spec(self, amplitude, phase):
        kind = "complex128" if amplitude.dtype == "float64" else "complex64"
        return keras.KerasTensor(amplitude.shape, dtype=kind)


@keras.saving.register_keras_serializable("tests")
class TrimReconstructionLayer(layers.Layer):
    def call(self, parts):
        return parts[0]

    def compute_output_spec(self, parts):
        return keras.KerasTensor(parts[0].shape, dtype=parts[0].dtype)


def build(config: ModelConfig, intensity_scale: float):
    """Build the model `diffraction_to_obj`, with random weights."""
    edge, channels, scale = config.N, config.gridsize**2, config.n_filters_scale
    diffraction = keras.Input((edge, edge, channels), name="input")
    positions = keras.Input((1, 2, channels), name="input_positions")
    x = IntensityScaler(intensity_scale, name="intensity_scaler")(diffraction)
    for filters in ENCODER[edge]:
        x = _pair(scale * filters)(x)
        x = layers.MaxPooling2D()(x)
    outputs = channels if config.object_big else 1
    amplitude = _decode(x, config, outputs, config.amp_activation, "amp", "amp_padded")
    phase = _decode(x, config, outputs, "phase", "phi", "phase_padded")
    obj = CombineComplexLayer(name="obj")(amplitude, phase)
    trimmed = TrimReconstructionLayer(name="trimmed_obj")([obj, positions])
    return keras.Model([diffraction, positions], trimmed)


def _conv(filters, activation=None):
    return layers.Conv2D(filters, 3, padding="same", activation=activation)


def _pair(filters):
    first, second = _conv(filters, "relu"), _conv(filters, "relu")
    return lambda x: second(first(x))


def _decode(x, config, outputs, activation, name, padded):
    edge, scale = config.N, config.n_filters_scale
    # Made first, whether they are used or not: their numbers come before the levels'.
    inner = _conv(outputs)
    last = _conv(outputs)
    for filters in DECODER[edge]:
        x = layers.UpSampling2D()(_pair(scale * filters)(x))
    act = ActivationLayer(activation, name=name)
    if not config.pad_object:
        return act(last(layers.UpSampling2D()(_pair(scale * DECODER[edge][-1])(x))))
    centre = layers.ZeroPadding2D(edge // 4, name=padded)(act(inner(x[..., :-4])))
    if not config.probe_big:
        return centre
    outer = layers.UpSampling2D()(_pair(scale * 2048 // edge)(x[..., -4:]))
    outer = keras.activations.swish(last(outer))
    return centre + outer * CenterMaskLayer()(outer)
