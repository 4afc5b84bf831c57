import io
import os
import zipfile

import numpy as np
import pytest
import torch

import ptychostream as ps
from ptychostream.cli.main import main
from ptychostream.config import PyTorchExecutionConfig
from ptychostream.errors import DataContractError
from ptychostream.workflows import load_inference_bundle, train_cdi_model


@pytest.fixture(scope="module")
def run(tiny_store, tmp_path_factory):
    """A training of two epochs that leaves checkpoints."""
    folder = tmp_path_factory.mktemp("run")
    config = ps.TrainingConfig(
        model=ps.ModelConfig(
            N=16, gridsize=2, architecture="unrolled", unrolled_steps=2, unrolled_width=8
        ),
        nepochs=2,
        n_groups=16,
        batch_size=8,
        neighbor_count=6,
        probe_trainable=True,
        output_dir=folder,
    )
    execution = PyTorchExecutionConfig(logger_backend=None)
    bundle = ps.train(config, tiny_store, execution=execution)
    return bundle, folder / "checkpoints"


def _inputs():
    k = np.arange(3 * 16 * 16 * 4)
    amplitude = (1 + np.sin(0.7 * k)).reshape(3, 16, 16, 4)
    return [amplitude.astype(np.float32), np.zeros((3, 1, 2, 4), np.float32)]


def test_the_last_checkpoint_is_the_trained_model(run):
    bundle, folder = run
    loaded = ps.load_bundle(folder / "last.ckpt")
    assert loaded.config == bundle.config
    assert loaded.intensity_scale == bundle.intensity_scale
    assert loaded.history == bundle.history
    assert loaded.provenance["epoch"] == 1
    np.testing.assert_array_equal(loaded.probe_guess, bundle.probe_guess)
    np.testing.assert_array_equal(loaded.predict(_inputs()), bundle.predict(_inputs()))
    model, values = load_inference_bundle(folder / "last.ckpt")
    np.testing.assert_array_equal(model.predict(_inputs()), bundle.predict(_inputs()))
    assert values["intensity_scale"] == bundle.intensity_scale


def test_a_checkpoint_of_an_earlier_epoch_is_another_model(run):
    _, folder = run
    (best,) = folder.glob("best-*.ckpt")
    loaded = ps.load_bundle(best)
    assert loaded.predict(_inputs()).shape == (3, 16, 16, 1)


def test_a_checkpoint_becomes_an_archive(run, tmp_path, capsys):
    bundle, folder = run
    assert main(["convert", str(folder / "last.ckpt"), str(tmp_path / "new.zip")]) == 0
    loaded = ps.load_bundle(tmp_path / "new.zip")
    np.testing.assert_array_equal(loaded.predict(_inputs()), bundle.predict(_inputs()))
    capsys.readouterr()
    assert main(["info", str(folder / "last.ckpt")]) == 0
    said = capsys.readouterr().out
    expected = sum(p.numel() for p in bundle.model.parameters())
    for text in ("checkpoint", "pytorch", "unrolled", f"{expected} parameters", "epoch 1"):
        assert text in said


def test_a_model_trained_on_a_container_has_checkpoints_too(tiny_scan, make_config, tmp_path):
    raw = ps.RawDataTorch.from_scan(tiny_scan)
    grouped = raw.generate_grouped_data(16, K=6, nsamples=12, gridsize=1)
    from ptychostream.ptychopinn.container import load

    container = load(lambda: grouped, tiny_scan.probe[0], which=None, create_split=False)
    config = make_config(backend="pytorch")
    results = train_cdi_model(container, None, config, PyTorchExecutionConfig(logger_backend=None))
    loaded = ps.load_bundle(tmp_path / "checkpoints" / "last.ckpt")
    assert loaded.intensity_scale == results["bundle"].intensity_scale


class Canary:
    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return (os.mkdir, (self.path,))


def _ours(run):
    return torch.load(run[1] / "last.ckpt", weights_only=True)


HOSTILE = {
    "a call": (lambda c, canary: c | {"epoch": Canary(canary)}, "no checkpoint of plain data"),
    "a call among ours": (
        lambda c, canary: c | {"ptychostream": {"config": Canary(canary)}},
        "no checkpoint of plain data",
    ),
    "no entry of ours": (
        lambda c, canary: {k: v for k, v in c.items() if k != "ptychostream"},
        "without the entry 'ptychostream'",
    ),
    "no weights": (lambda c, canary: c | {"state_dict": {}}, "does not fit its description"),
    "a list": (lambda c, canary: [1], "is no checkpoint"),
    "an entry of another kind": (
        lambda c, canary: c | {"ptychostream": {"config": 3}},
        "entry 'ptychostream' can't be read",
    ),
    "a description of another network": (
        lambda c, canary: (c["ptychostream"]["config"]["model"].update(unrolled_width=12), c)[1],
        "does not fit its description",
    ),
    "a scale of text": (
        lambda c, canary: (c["ptychostream"].update(intensity_scale="x"), c)[1],
        "entry 'ptychostream' can't be read",
    ),
}


@pytest.mark.parametrize("kind", HOSTILE)
def test_a_hostile_or_foreign_checkpoint_is_refused_and_nothing_runs(run, tmp_path, kind):
    change, message = HOSTILE[kind]
    path = tmp_path / "evil.ckpt"
    torch.save(change(_ours(run), str(tmp_path / "canary")), path)
    with pytest.raises(DataContractError, match=message):
        ps.load_bundle(path)
    assert not (tmp_path / "canary").exists()


def test_what_is_no_checkpoint_is_said(run, tmp_path):
    path = tmp_path / "evil.ckpt"
    data = (run[1] / "last.ckpt").read_bytes()
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        archive.writestr("../data.pkl", b"x")
    for content in (b"", b"no zip", data[: len(data) // 2], buffer.getvalue()):
        path.write_bytes(content)
        with pytest.raises(DataContractError, match=r"evil\.ckpt"):
            ps.load_bundle(path)
    with pytest.raises(DataContractError, match="pytorch backend but the tensorflow backend"):
        ps.load_bundle(run[1] / "last.ckpt", backend="tensorflow")
