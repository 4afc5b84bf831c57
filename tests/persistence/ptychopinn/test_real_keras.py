"""The same with the real Keras and TensorFlow: files that they write, and files that they read."""

import os
import pickle
import zipfile
from copy import deepcopy
from pathlib import Path

import numpy as np
import pytest
import torch

import ptychostream as ps
from ptychostream import legacy
from ptychostream.cli.main import main

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
tf = pytest.importorskip("tensorflow")
keras = pytest.importorskip("keras")

from keras_network import build  # noqa: E402

#: About Keras's own use of NumPy and TensorFlow.
pytestmark = [pytest.mark.slow, pytest.mark.filterwarnings("ignore:.*:DeprecationWarning")]

SCALE = 31.25
#: Each option once; those that do not touch each other, together.
OPTIONS = {
    "one pattern": {},
    "groups, two filters": {"gridsize": 2, "n_filters_scale": 2},
    "nines, softplus": {"gridsize": 3, "amp_activation": "softplus"},
    "no padding": {"gridsize": 2, "pad_object": False},
    "centre only, swish": {"gridsize": 2, "probe_big": False, "amp_activation": "swish"},
    "one patch a group, 128 px": {"N": 128, "gridsize": 2, "object_big": False},
    "256 px": {"N": 256},
}


def _config(options):
    return ps.ModelConfig(**({"N": 64, "n_filters_scale": 1} | options))


def _archive(model, config, folder):
    """Write what the TensorFlow backend writes, the probe as a tensor."""
    rng = np.random.default_rng(0)
    shape = (config.N, config.N, 1)
    probe = rng.normal(size=shape) + 1j * rng.normal(size=shape)
    values = {
        **legacy.DEFAULTS,
        **legacy.dataclass_to_legacy_dict(config),
        "probe": tf.constant(probe.astype(np.complex64)),
        "intensity_scale": tf.constant(SCALE).numpy(),
        "_version": "1.0",
    }
    values = {key: value for key, value in values.items() if value is not None}
    model.save(folder / "model.keras")
    manifest = {"models": ["autoencoder", "diffraction_to_obj"], "version": "1.0"}
    with zipfile.ZipFile(folder / "wts.h5.zip", "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("manifest.dill", pickle.dumps(manifest))
        for name in manifest["models"]:
            archive.write(folder / "model.keras", f"{name}/model.keras")
            archive.writestr(f"{name}/params.dill", pickle.dumps(values))
            archive.writestr(f"{name}/custom_objects.dill", pickle.dumps({"layer": object}))
    return folder / "wts.h5.zip"


def _inputs(config, groups=2):
    rng = np.random.default_rng(1)
    amplitude = rng.gamma(1.0, size=(groups, config.N, config.N, config.group_size)) * SCALE
    offsets = rng.normal(size=(groups, 1, 2, config.group_size))
    return [amplitude.astype(np.float32), offsets.astype(np.float32)]


def _decoded(bundle, inputs):
    """The patches before they are merged, which is where the Keras model of the tests ends."""
    generator = deepcopy(bundle.model.generator).double()
    with torch.no_grad():
        amplitude = torch.tensor(inputs[0], dtype=torch.float64).movedim(-1, 1) / SCALE
        return generator.decode(amplitude).movedim(1, -1).numpy()


def _exact(model, config, inputs):
    """The outputs of a Keras model in double precision: rounding differs between processors."""
    keras.config.set_floatx("float64")
    keras.config.set_dtype_policy("float64")
    try:
        exact = build(config, SCALE)
        exact.set_weights(model.get_weights())
        return np.asarray(exact([each.astype(np.float64) for each in inputs]))
    finally:
        keras.config.set_floatx("float32")
        keras.config.set_dtype_policy("float32")


@pytest.mark.parametrize("kind", OPTIONS)
def test_a_keras_model_keeps_its_outputs_here_and_back_there(kind, tmp_path: Path):
    config = _config(OPTIONS[kind])
    model = build(config, SCALE)
    # Biases begin at zero: give every one its own value.
    rng = np.random.default_rng(2)
    model.set_weights([w + 0.05 * rng.normal(size=w.shape) for w in model.get_weights()])
    path = _archive(model, config, tmp_path)
    assert main(["convert", str(path), str(tmp_path / "new.zip")]) == 0
    bundle = ps.load_bundle(tmp_path / "new.zip")
    inputs = _inputs(config)
    expected = np.asarray(model(inputs))
    exact = _exact(model, config, inputs)
    assert exact.dtype == np.complex128
    np.testing.assert_allclose(_decoded(bundle, inputs), exact, rtol=1e-6, atol=1e-6)
    assert sum(p.numel() for p in bundle.model.generator.parameters()) == model.count_params()

    back = tmp_path / "back.weights.h5"
    assert main(["convert", str(tmp_path / "new.zip"), str(back)]) == 0
    other = build(config, SCALE)
    assert np.abs(np.asarray(other(inputs)) - expected).max() > 1e-3
    other.load_weights(back)
    for mine, theirs in zip(other.get_weights(), model.get_weights(), strict=True):
        np.testing.assert_array_equal(mine, theirs)
    np.testing.assert_allclose(np.asarray(other(inputs)), expected, atol=1e-6)


def test_what_the_optimiser_adds_is_left_aside(tmp_path):
    config = _config({})
    model = build(config, SCALE)
    # As `autoencoder` is saved after training.
    trained = keras.Model(model.inputs, keras.ops.abs(model.outputs[0]))
    trained.compile("adam", "mse", run_eagerly=True)
    inputs = _inputs(config)
    trained.fit(inputs, np.ones((2, 64, 64, 1)), verbose=0)
    path = _archive(trained, config, tmp_path)
    np.testing.assert_allclose(
        _decoded(ps.load_bundle(path), inputs), _exact(model, config, inputs), atol=1e-6
    )
