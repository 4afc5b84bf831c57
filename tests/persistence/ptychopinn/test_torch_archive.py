"""Archives of PtychoPINN's PyTorch port, made by hand with the weights of a recorded network.

`torch_port_forward.npz` holds what the port itself made of them: parameter number i is
w[k] = sin(0.7 k + i) · √(2 / fan), or 0.01 · sin(0.7 k + i) in one dimension.
"""

import io
import pickle
import zipfile
from pathlib import Path

import numpy as np
import pytest
import torch

import ptychostream as ps
from ptychostream.cli.main import main
from ptychostream.errors import DataContractError
from ptychostream.workflows import load_inference_bundle

DATA = Path(__file__).parents[2] / "data"
#: The factor that the port was given for its input and its output.
SCALE = 1.7

PARAMS = {
    "N": 64,
    "gridsize": 1,
    "n_filters_scale": 1,
    "architecture": "cnn",
    "model_type": "pinn",
    "amp_activation": "swish",
    "object.big": False,
    "probe.mask": False,
    "probe.big": True,
    "pad_object": True,
    "probe_scale": 4.0,
    "nphotons": 1e6,
    "backend": "pytorch",
    "_version": "2.0-pytorch",
}
RECORDED = {
    "schema_version": "ci-entrypoints-v1",
    "model_config": {"amp_activation": "silu", "cnn_output_mode": "amp_phase"},
    "ci_statistics": None,
}


def _layers():
    """Names and shapes of the port's network for one pattern, in its order."""
    for level, (before, after) in enumerate([(1, 32), (32, 64), (64, 128)]):
        block = f"encoder.blocks.{level}"
        yield f"{block}.conv1", (after, before, 3, 3)
        yield f"{block}.conv2", (after, after, 3, 3)
        yield f"{block}.attention.ChannelGate.mlp.1", (after // 16, after)
        yield f"{block}.attention.ChannelGate.mlp.3", (after, after // 16)
        yield f"{block}.attention.SpatialGate.compress", (1, 2, 7, 7)
    for decoder, last in (("decoder_amp", "amp"), ("decoder_phase", "phase")):
        for level, (before, after) in enumerate([(128, 64), (64, 32)]):
            yield f"{decoder}.blocks.{level}.conv1", (after, before, 3, 3)
            yield f"{decoder}.blocks.{level}.conv2", (after, after, 3, 3)
        yield f"{decoder}.{last}.conv1", (1, 31, 3, 3)
        yield f"{decoder}.{last}.conv_up_block.conv1", (32, 1, 3, 3)
        yield f"{decoder}.{last}.conv_up_block.conv2", (32, 32, 3, 3)
        yield f"{decoder}.{last}.conv2", (1, 32, 3, 3)


def _weights():
    shapes = {}
    for layer, shape in _layers():
        shapes[f"{layer}.weight"] = shape
        if "SpatialGate" not in layer:
            shapes[f"{layer}.bias"] = shape[:1]
    found = {}
    for number, (name, shape) in enumerate(shapes.items()):
        size = np.sqrt(2 / np.prod(shape[1:])) if len(shape) > 1 else 0.01
        wave = size * np.sin(0.7 * np.arange(np.prod(shape)) + number)
        found[f"model.autoencoder.{name}"] = torch.tensor(wave.reshape(shape), dtype=torch.float32)
    return found | {"model.forward_model.alpha": torch.ones(1)}


def _saved(content):
    stream = io.BytesIO()
    torch.save(content, stream)
    return stream.getvalue()


def _archive(folder, *, weights=None, params=None, recorded=None):
    manifest = {"models": ["diffraction_to_obj", "autoencoder"], "version": "2.0-pytorch"}
    folder.mkdir(exist_ok=True)
    with zipfile.ZipFile(folder / "wts.h5.zip", "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("manifest.dill", pickle.dumps(manifest))
        saved = weights if isinstance(weights, bytes) else _saved(weights or WEIGHTS)
        archive.writestr("diffraction_to_obj/model.pth", saved)
        archive.writestr("diffraction_to_obj/params.dill", pickle.dumps(PARAMS | (params or {})))
        archive.writestr("autoencoder/model.pth", _saved({"_sentinel": "autoencoder"}))
        archive.writestr("autoencoder/params.dill", pickle.dumps(PARAMS))
        archive.writestr("torch_scaling_metadata.pt", _saved(RECORDED | (recorded or {})))
    return folder / "wts.h5.zip"


WEIGHTS = _weights()


@pytest.fixture(scope="module")
def numbers():
    with np.load(DATA / "torch_port_forward.npz") as given:
        return dict(given)


def _close(found, expected):
    np.testing.assert_allclose(found, expected, atol=1e-5 * np.abs(expected).max(), rtol=0)


def test_the_ports_network_predicts_here_what_it_predicted_there(tmp_path, numbers):
    bundle = ps.load_bundle(_archive(tmp_path), restore=None, probe_guess=numbers["probe"])
    assert bundle.provenance["made_by"] == "PtychoPINN, PyTorch backend"
    assert sum(p.numel() for p in bundle.model.generator.parameters()) == 586_790
    with torch.no_grad():
        patch = bundle.model.generator.decode(SCALE * torch.tensor(numbers["X"])).numpy()
    patch = patch[:, :, ::2, 1::2]
    _close(np.abs(patch), np.abs(numbers["amplitude"]))
    # These weights make logits of 10^4, of which single precision knows the thousandths.
    expected = numbers["amplitude"] * np.exp(1j * numbers["phase"])
    error = np.abs(np.angle(patch * np.conj(expected)))[np.abs(numbers["amplitude"]) > 1]
    assert error.max() < 1e-2
    assert np.median(error) < 1e-4


def test_its_predicted_diffraction_has_the_same_scale(tmp_path, numbers):
    bundle = ps.load_bundle(_archive(tmp_path), restore=None, probe_guess=numbers["probe"])
    with torch.no_grad():
        patch = bundle.model.generator.decode(SCALE * torch.tensor(numbers["X"]))[0, 0]
        probe = bundle.model.scaled_probe(torch.zeros(1, dtype=torch.int64))[0, 0]
    wave = patch.numpy().astype(complex) * probe.numpy()
    found = np.abs(np.fft.fftshift(np.fft.fft2(wave, norm="ortho")))[::2, 1::2]
    expected = SCALE * numbers["predicted"][0, 0]
    assert np.linalg.norm(found - expected) < 1e-3 * np.linalg.norm(expected)


def test_its_gain_is_a_factor_on_the_predicted_amplitude(tmp_path, numbers):
    gain = {"model_config": {"amplitude_physics_gain": 2.5}}
    plain, louder = (
        ps.load_bundle(
            _archive(tmp_path / name, recorded=recorded), restore=None, probe_guess=numbers["probe"]
        )
        for name, recorded in (("plain", None), ("gain", gain))
    )
    assert louder.config.model.amplitude_physics_gain == 2.5
    inputs = [numbers["X"].transpose(0, 2, 3, 1), np.zeros((1, 1, 2, 1))]
    _close(louder.autoencode(inputs).amplitude, 2.5 * plain.autoencode(inputs).amplitude)
    _close(louder.predict(inputs), plain.predict(inputs))


def test_convert_makes_one_of_ours_that_predicts_the_same(tmp_path, numbers, capsys):
    old, new = _archive(tmp_path / "old"), tmp_path / "new.zip"
    np.savez(tmp_path / "scan.npz", probeGuess=numbers["probe"])
    assert main(["info", str(old)]) == 0
    assert "--probe SCAN" in capsys.readouterr().out
    assert main(["convert", str(old), str(new), "--probe", str(tmp_path / "scan.npz")]) == 0
    there = ps.load_bundle(old, restore=None, probe_guess=numbers["probe"])
    here = ps.load_bundle(new, restore=None)
    assert here.config.model == there.config.model
    inputs = [numbers["X"].transpose(0, 2, 3, 1), np.zeros((1, 1, 2, 1))]
    np.testing.assert_array_equal(here.predict(inputs), there.predict(inputs))
    with pytest.raises(DataContractError, match=r"leave out --probe .*needs no conversion"):
        ps.load_bundle(new, restore=None, probe_guess=numbers["probe"])


def test_without_a_probe_the_advice_is_to_give_it_just_there(tmp_path, numbers):
    path = _archive(tmp_path)
    for read in (ps.load_bundle, load_inference_bundle):
        with pytest.raises(DataContractError, match="holds no probe; give .*--probe SCAN"):
            read(path)
        with pytest.raises(DataContractError, match="but the tensorflow backend is wanted"):
            read(path, backend="tensorflow")
    with pytest.raises(DataContractError, match=r"probe_guess is \(32, 64\), expected \(64, 64\)"):
        ps.load_bundle(path, probe_guess=numbers["probe"][:32])


class _Trap:
    def __reduce__(self):
        return (print, ("executed",))


REFUSED = {
    "intensities": ({"recorded": {"ci_statistics": {"mean": 1.0}}}, "trained on intensities"),
    "parts": (
        {"recorded": {"model_config": {"cnn_output_mode": "real_imag"}}},
        "cnn_output_mode='real_imag'; only 'amp_phase'",
    ),
    "rectangular": (
        {"recorded": {"model_config": {"physics_forward_mode": "rectangular_scaled"}}},
        "physics_forward_mode='rectangular_scaled'.*s1 and s2 multiply.*nowhere stated",
    ),
    "no gain": (
        {"recorded": {"model_config": {"amplitude_physics_gain": 0}}},
        "amplitude_physics_gain=0, expected a number above 0",
    ),
    "another": ({"params": {"architecture": "fno"}}, "architecture='fno'; only 'cnn'"),
    "two activations": ({"params": {"amp_activation": "relu"}}, "amp_activation 'swish'.*'relu'"),
    "another layer": (
        {"weights": WEIGHTS | {"model.autoencoder.shared.weight": torch.ones(1)}},
        "'model.autoencoder.shared.weight', of a layer",
    ),
    "one missing": (
        {"weights": dict(list(WEIGHTS.items())[1:])},
        r"missing \['generator.encoder.0.first.weight'\]",
    ),
    "code": ({"weights": _saved({"x": _Trap()})}, "no checkpoint of plain data"),
    "code in settings": ({"params": {"x": _Trap()}}, "is not plain data"),
}


@pytest.mark.parametrize(("change", "why"), REFUSED.values(), ids=REFUSED)
def test_what_cannot_be_read_is_refused_with_the_reason(change, why, tmp_path, numbers, capsys):
    path = _archive(tmp_path, **change)
    with pytest.raises(DataContractError, match=why):
        ps.load_bundle(path, restore=None, probe_guess=numbers["probe"])
    assert "executed" not in capsys.readouterr().out
