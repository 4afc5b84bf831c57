import io
import json
import os
import pickle
import stat
import subprocess
import sys
import zipfile

import numpy as np
import pytest
import torch

import ptychostream as ps
from ptychostream.errors import DataContractError, MissingFileError
from ptychostream.training import initial_model


@pytest.fixture
def bundle(tiny_store, make_config):
    config = make_config(model={"gridsize": 2}, probe_trainable=True)
    model = initial_model(config, tiny_store, seed=1)
    with torch.no_grad():
        model.probe.parts += 0.1
    return ps.ModelBundle(
        model=model.eval(),
        config=config,
        intensity_scale=12.5,
        probe_guess=tiny_store.probe,
        history={"train_loss": [2.0, 1.0]},
    )


def _inputs(bundle, tiny_store):
    spec = ps.to_spec_dict(tiny_store, tiny_store.groups(2, 6), np.arange(5))
    return [spec["X_full"] * bundle.intensity_scale, spec["coords_relative"]]


def test_a_saved_model_predicts_the_same_bit_for_bit_in_another_process(
    bundle, tiny_store, tmp_path
):
    ps.save_bundle(bundle, tmp_path)
    inputs = _inputs(bundle, tiny_store)
    np.savez(tmp_path / "inputs.npz", a=inputs[0], b=inputs[1])
    code = (
        "import sys, numpy as np, torch, ptychostream as ps\n"
        "torch.set_num_threads(1)\n"
        "with np.load(sys.argv[1] + '/inputs.npz') as z: inputs = [z['a'], z['b']]\n"
        "np.save(sys.argv[1] + '/out.npy', ps.load_bundle(sys.argv[1]).predict(inputs))\n"
    )
    subprocess.run([sys.executable, "-c", code, str(tmp_path)], check=True)
    expected = bundle.predict(inputs)
    assert expected.shape == (5, 16, 16, 1)
    assert expected.dtype == np.complex64
    np.testing.assert_array_equal(np.load(tmp_path / "out.npy"), expected)
    loaded = ps.load_bundle(tmp_path)
    assert loaded.config == bundle.config
    assert loaded.intensity_scale == bundle.intensity_scale
    assert loaded.history == bundle.history
    np.testing.assert_array_equal(loaded.probe_guess, bundle.probe_guess)


def test_nothing_else_is_written_and_an_archive_is_replaced(bundle, tmp_path):
    ps.save_bundle(bundle, tmp_path)
    ps.save_bundle(bundle, tmp_path)
    assert [p.name for p in tmp_path.iterdir()] == ["wts.h5.zip"]


def test_the_manifest_names_models_and_backend_for_other_readers(bundle, tmp_path):
    with zipfile.ZipFile(ps.save_bundle(bundle, tmp_path)) as archive:
        manifest = pickle.loads(archive.read("manifest.dill"))
    assert manifest["models"] == ["autoencoder", "diffraction_to_obj"]
    assert manifest["backend"] == "pytorch"


def test_predict_refuses_shapes_that_do_not_fit(bundle):
    with pytest.raises(DataContractError, match=r"expected \(B, 16, 16, 4\)"):
        bundle.predict([np.ones((2, 16, 16, 1)), np.zeros((2, 1, 2, 1))])


def _rewrite(path, change):
    with zipfile.ZipFile(path) as archive:
        members = {name: archive.read(name) for name in archive.namelist()}
    change(members)
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, data in members.items():
            archive.writestr(name, data)


def _index(members, **changes):
    index = json.loads(members["ptychostream.json"])
    members["ptychostream.json"] = json.dumps(index | changes).encode()


WEIGHTS = "diffraction_to_obj/weights.safetensors"


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda m: m.update({WEIGHTS: m[WEIGHTS][:-4] + b"\0\0\0\1"}), "fails its checksum"),
        (lambda m: m.pop(WEIGHTS), f"'{WEIGHTS}' can't be read"),
        (lambda m: m.update({"../evil.py": b"boom"}), r"'../evil.py' has an unsafe name"),
        (lambda m: m.update({"/etc/evil": b"boom"}), "'/etc/evil' has an unsafe name"),
        (lambda m: m.update({"a\\b": b"boom"}), "unsafe name"),
        (lambda m: m.update(bomb=bytes(10**7)), "'bomb' is compressed absurdly"),
        (lambda m: m.update({f"m{i}": b"" for i in range(99)}), "102 members"),
        (lambda m: m.update({"ptychostream.json": b"{"}), "not a readable archive"),
        (lambda m: m.update({"ptychostream.json": b"[]"}), "lacks some of"),
        (lambda m: _index(m, version=[9, 0]), r"version \[9, 0\]"),
        (lambda m: _index(m, config={"nepoch": 3}), "unknown keys nepoch"),
        (lambda m: m.pop("ptychostream.json"), "archive of the tensorflow backend"),
    ],
)
def test_hostile_or_damaged_archives_are_refused(bundle, tmp_path, change, message):
    path = ps.save_bundle(bundle, tmp_path)
    _rewrite(path, change)
    with pytest.raises(DataContractError, match=message):
        ps.load_bundle(tmp_path)


def test_links_and_truncated_files_are_refused(bundle, tmp_path):
    path = ps.save_bundle(bundle, tmp_path)
    data = path.read_bytes()
    path.write_bytes(data[: len(data) // 2])
    with pytest.raises(DataContractError, match="not a readable archive"):
        ps.load_bundle(tmp_path)
    path.write_bytes(data)
    link = zipfile.ZipInfo("link")
    link.external_attr = (stat.S_IFLNK | 0o777) << 16
    with zipfile.ZipFile(path, "a") as archive:
        archive.writestr(link, "/etc/passwd")
    with pytest.raises(DataContractError, match="'link' has an unsafe name"):
        ps.load_bundle(tmp_path)


class Canary:
    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return (os.mkdir, (self.path,))


def test_no_pickle_in_an_archive_ever_runs(bundle, tmp_path):
    path = ps.save_bundle(bundle, tmp_path)
    canary = str(tmp_path / "canary")
    poison = pickle.dumps(Canary(canary))
    torch_poison = io.BytesIO()
    torch.save({"x": Canary(canary)}, torch_poison)
    _rewrite(path, lambda m: m.update({"manifest.dill": poison, "params.dill": poison}))
    ps.load_bundle(tmp_path)
    for payload in (poison, torch_poison.getvalue()):
        _rewrite(path, lambda m, p=payload: m.update({WEIGHTS: p}))
        with pytest.raises(DataContractError, match="checksum"):
            ps.load_bundle(tmp_path)
    assert not (tmp_path / "canary").exists()


def test_weights_that_do_not_fit_are_refused(bundle, tmp_path):
    path = ps.save_bundle(bundle, tmp_path)

    def widen(members):
        config = json.loads(members["ptychostream.json"])["config"]
        config["model"]["unrolled_width"] = 12
        _index(members, config=config)

    _rewrite(path, widen)
    with pytest.raises(DataContractError, match="does not fit"):
        ps.load_bundle(tmp_path)


def test_a_missing_archive_is_named(tmp_path):
    with pytest.raises(MissingFileError, match=r"wts\.h5\.zip"):
        ps.load_bundle(tmp_path)
