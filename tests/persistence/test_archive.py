import hashlib
import io
import json
import os
import pickle
import resource
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch

import ptychostream as ps
from ptychostream import legacy
from ptychostream.errors import DataContractError, MissingFileError
from ptychostream.models.generators import GENERATORS
from ptychostream.persistence.archive import write_archive
from ptychostream.persistence.open_archive import kind_of, open_archive
from ptychostream.training.train import initial_model

DATA = Path(__file__).parents[1] / "data"
WEIGHTS = "diffraction_to_obj/weights.safetensors"
PARAMS = "diffraction_to_obj/params.dill"
INDEX = "ptychostream.json"


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
        legacy={"label": "a run", "offset": 7},
        provenance={"made_by": "a test"},
    )


def _inputs(bundle, groups=5):
    """Any numbers, of the right shape and size."""
    model = bundle.config.model
    k = np.arange(groups * model.N**2 * model.group_size)
    amplitude = (1 + np.sin(0.7 * k)).reshape(groups, model.N, model.N, model.group_size)
    relative = 1.5 * np.sin(1.3 * np.arange(groups * 2 * model.group_size))
    relative = relative.reshape(groups, 1, 2, model.group_size)
    return [(amplitude * bundle.intensity_scale).astype(np.float32), relative.astype(np.float32)]


SMALL = {"n_filters_scale": 1}
ROUND_TRIPS = {
    **{name: {"N": 64, "architecture": name, **SMALL} for name in sorted(GENERATORS)},
    "cnn-groups": {"N": 64, "gridsize": 2, **SMALL},
    "cnn-nines": {"N": 64, "gridsize": 3, **SMALL},
    "cnn-full": {"N": 64, "pad_object": False, **SMALL},
    "cnn-centre": {"N": 64, "probe_big": False, **SMALL},
    "cnn-one-patch": {"N": 64, "gridsize": 2, "object_big": False, **SMALL},
    "cnn-two-filters": {"N": 64, "n_filters_scale": 2},
    "cnn-softplus-mask": {"N": 64, "amp_activation": "softplus", "probe_mask": True, **SMALL},
    "cnn-128": {"N": 128, **SMALL},
    "unrolled-groups": {
        "N": 16,
        "architecture": "unrolled",
        "gridsize": 2,
        "gaussian_smoothing_sigma": 0.7,
        "probe_scale": 3.0,
        "unrolled_steps": 2,
        "unrolled_width": 4,
    },
}


def _models(folder):
    """Save a model of each generator and option, with random weights."""
    for name, options in ROUND_TRIPS.items():
        rng = np.random.default_rng(len(name))
        shape = (2, 3, options["N"], options["N"])
        probe = (rng.normal(size=shape) + 1j * rng.normal(size=shape)).astype(np.complex64)
        config = ps.TrainingConfig(
            model=ps.ModelConfig(**options),
            backend="pytorch",
            neighbor_count=9,
            probe_trainable="mask" in name,
            intensity_scale_trainable="groups" in name,
        )
        store = SimpleNamespace(probe=probe, bad_pixels=None)
        model = initial_model(config, store, seed=len(name)).eval()
        with torch.no_grad():
            for weight in model.parameters():
                weight += 0.01 * torch.as_tensor(rng.normal(size=weight.shape))
        bundle = ps.ModelBundle(
            model=model, config=config, intensity_scale=0.1 + len(name), probe_guess=probe
        )
        ps.save_bundle(bundle, folder / name)
        yield name, bundle


def test_every_generator_predicts_the_same_bit_for_bit_in_another_process(tmp_path):
    expected = {}
    for name, bundle in _models(tmp_path):
        inputs = _inputs(bundle, groups=2)
        np.savez(tmp_path / name / "inputs.npz", a=inputs[0], b=inputs[1])
        expected[name] = (*bundle.autoencode(inputs), bundle.config)
    code = (
        "import sys, pathlib, numpy as np, torch, ptychostream as ps\n"
        "torch.set_num_threads(1)\n"
        "for folder in pathlib.Path(sys.argv[1]).iterdir():\n"
        "    with np.load(folder / 'inputs.npz') as z: inputs = [z['a'], z['b']]\n"
        "    bundle = ps.load_bundle(folder)\n"
        "    np.save(folder / 'predicted.npy', bundle.predict(inputs))\n"
        "    np.save(folder / 'amplitude.npy', bundle.autoencode(inputs).amplitude)\n"
    )
    subprocess.run([sys.executable, "-c", code, str(tmp_path)], check=True)
    for name, (obj, amplitude, counts, config) in expected.items():
        np.testing.assert_array_equal(np.load(tmp_path / name / "predicted.npy"), obj, name)
        np.testing.assert_array_equal(np.load(tmp_path / name / "amplitude.npy"), amplitude, name)
        np.testing.assert_array_equal(counts, amplitude**2)
        assert ps.load_bundle(tmp_path / name).config == config


def test_everything_comes_back(bundle, tmp_path):
    ps.save_bundle(bundle, tmp_path)
    loaded = ps.load_bundle(tmp_path)
    for name in ("config", "intensity_scale", "history", "legacy", "provenance"):
        assert getattr(loaded, name) == getattr(bundle, name), name
    np.testing.assert_array_equal(loaded.probe_guess, bundle.probe_guess)
    for name, weight in bundle.model.state_dict().items():
        torch.testing.assert_close(loaded.model.state_dict()[name], weight, rtol=0, atol=0)
    assert not loaded.model.training


def test_the_same_model_gives_the_same_file_and_nothing_else_is_written(bundle, tmp_path):
    first = ps.save_bundle(bundle, tmp_path).read_bytes()
    assert ps.save_bundle(ps.load_bundle(tmp_path), tmp_path).read_bytes() == first
    assert [p.name for p in tmp_path.iterdir()] == ["wts.h5.zip"]


def test_an_archive_that_cannot_be_written_leaves_the_old_one(bundle, tmp_path, monkeypatch):
    before = ps.save_bundle(bundle, tmp_path).read_bytes()

    def full(*_):
        raise OSError("no space left on device")

    monkeypatch.setattr(zipfile.ZipFile, "writestr", full)
    with pytest.raises(OSError, match="no space left"):
        ps.save_bundle(bundle, tmp_path)
    assert [p.name for p in tmp_path.iterdir()] == ["wts.h5.zip"]
    assert (tmp_path / "wts.h5.zip").read_bytes() == before


def test_other_readers_find_plain_dictionaries(bundle, tmp_path):
    with zipfile.ZipFile(ps.save_bundle(bundle, tmp_path)) as archive:
        manifest = pickle.loads(archive.read("manifest.dill"))
        values = pickle.loads(archive.read("autoencoder/params.dill"))
        assert archive.read(PARAMS) == archive.read("autoencoder/params.dill")
    assert manifest["models"] == ["autoencoder", "diffraction_to_obj"]
    assert manifest["backend"] == "pytorch"
    assert values.keys() >= legacy.DEFAULTS.keys()
    assert (values["N"], values["gridsize"], values["intensity_scale"]) == (16, 2, 12.5)
    assert (values["label"], values["offset"], values["probe.trainable"]) == ("a run", 7, True)
    assert values["probe"].shape == (16, 16, 1)


def test_the_dictionarys_probe_is_normalised_as_readers_expect():
    from ptychostream.persistence.ptychopinn.legacy_params import normalised_probe

    with np.load(DATA / "upstream_forward.npz") as numbers:
        expected = numbers["probe"]
    # Normalised is normalised, at any scale.
    normalised = normalised_probe(7.5 * expected[..., 0], 4.0)
    np.testing.assert_allclose(normalised, expected, rtol=1e-5)


def test_loading_restores_the_legacy_dictionary_where_it_is_asked_to(bundle, tmp_path, monkeypatch):
    ps.save_bundle(bundle, tmp_path)
    stale = {"N": 1, "intensity_scale": -1.0, "mine": "kept"}
    monkeypatch.setattr(legacy.params, "cfg", dict(stale))
    ps.load_bundle(tmp_path, restore=None)
    assert legacy.params.cfg == stale
    with pytest.raises(RuntimeError, match="'ptycho' can't be imported"):
        ps.load_bundle(tmp_path, restore="ptycho")
    assert legacy.params.cfg == stale
    ps.load_bundle(tmp_path)
    found = legacy.params.cfg
    assert (found["N"], found["intensity_scale"], found["mine"]) == (16, 12.5, "kept")
    assert legacy.params.get("bigN") == 16 + 7
    theirs = SimpleNamespace(cfg={"N": 2, "theirs": 1})
    monkeypatch.setitem(sys.modules, "ptycho", SimpleNamespace())
    monkeypatch.setitem(sys.modules, "ptycho.params", theirs)
    ps.load_bundle(tmp_path, restore="ptycho")
    assert (theirs.cfg["N"], theirs.cfg["theirs"], theirs.cfg["offset"]) == (16, 1, 7)


def test_loading_leaves_the_callers_random_state_alone(bundle, tmp_path):
    ps.save_bundle(bundle, tmp_path)
    before = torch.get_rng_state()
    ps.load_bundle(tmp_path)
    assert torch.equal(torch.get_rng_state(), before)


def test_predict_refuses_shapes_that_do_not_fit(bundle):
    with pytest.raises(DataContractError, match=r"expected \(B, 16, 16, 4\)"):
        bundle.predict([np.ones((2, 16, 16, 1)), np.zeros((2, 1, 2, 1))])


@pytest.mark.parametrize("version", ["1.0", "1.1"])
def test_an_archive_of_each_version_still_loads(version):
    folder = DATA / f"archive-{version}"
    loaded = ps.load_bundle(folder)
    with np.load(folder / "expected.npz") as numbers:
        predicted = loaded.predict([numbers["diffraction"], numbers["offsets"]])
        np.testing.assert_allclose(predicted, numbers["object"], atol=1e-4)
        assert loaded.intensity_scale == numbers["intensity_scale"]
    assert loaded.config.model.unrolled_width == 8
    assert len(loaded.history["train_loss"]) == 2


def _rewrite(path, change, *, consistent=False):
    """Change members; with their digests, as one who knows the format would."""
    with zipfile.ZipFile(path) as archive:
        members = {name: archive.read(name) for name in archive.namelist()}
        comment = archive.comment
    change(members)
    if consistent:
        index = json.loads(members[INDEX])
        index["sha256"] = {
            name: hashlib.sha256(data).hexdigest()
            for name, data in members.items()
            if name != INDEX
        }
        members[INDEX] = json.dumps(index).encode()
        comment = b"sha256:" + hashlib.sha256(members[INDEX]).hexdigest().encode()
    with zipfile.ZipFile(path, "w") as archive:
        archive.comment = comment
        for name, data in members.items():
            packing = zipfile.ZIP_DEFLATED if name == "bomb" else zipfile.ZIP_STORED
            archive.writestr(name, data, packing)


def _set(**changes):
    def change(members):
        members[INDEX] = json.dumps(json.loads(members[INDEX]) | changes).encode()

    return change


def _set_model(**changes):
    def change(members):
        index = json.loads(members[INDEX])
        index["config"]["model"] |= changes
        members[INDEX] = json.dumps(index).encode()

    return change


def _swap(one, other):
    def change(members):
        members[one], members[other] = members[other], members[one]

    return change


def _nested(members):
    inner = io.BytesIO()
    with zipfile.ZipFile(inner, "w") as archive:
        archive.writestr("manifest.dill", members["manifest.dill"])
    members["more/wts.h5.zip"] = inner.getvalue()


def _weights(**tensors):
    from safetensors.torch import save

    return lambda members: members.update({WEIGHTS: save(tensors)})


#: Damage that a digest finds.
DAMAGED = {
    "weights": (lambda m: m.update({WEIGHTS: m[WEIGHTS][:-1] + b"\1"}), f"'{WEIGHTS}' fails its"),
    "manifest": (_swap("manifest.dill", PARAMS), "'manifest.dill'"),
    "params": (lambda m: m.update({PARAMS: m["manifest.dill"]}), f"'{PARAMS}' fails its checksum"),
    "index": (_set(intensity_scale=3.0), f"'{INDEX}' fails its checksum"),
    "swapped weights": (_swap(WEIGHTS, "autoencoder/params.dill"), "'autoencoder/params.dill'"),
}

#: What one who can compute digests may write.
HOSTILE = {
    "no weights": (lambda m: m.pop(WEIGHTS), f"'{WEIGHTS}' is missing: it can't be read"),
    "no manifest": (lambda m: m.pop("manifest.dill"), "'manifest.dill' is missing"),
    "an index that is cut": (lambda m: m.update({INDEX: b"{"}), f"'{INDEX}' is not a readable"),
    "an index of lists": (lambda m: m.update({INDEX: b"[]"}), f"'{INDEX}' lacks some of"),
    "a deep index": (lambda m: m.update({INDEX: b"[" * 10**5}), f"'{INDEX}' is not a readable"),
    "a number of digits": (lambda m: m.update({INDEX: b"9" * 10**5}), f"'{INDEX}' is not a read"),
    "a newer version": (_set(version=[9, 0]), r"version \[9, 0\]"),
    "no version": (_set(version="x"), f"'{INDEX}' has the version 'x'"),
    "another backend": (_set(backend="tensorflow"), "wrong backend: .*'tensorflow'"),
    "a scale of nothing": (_set(intensity_scale=float("nan")), "wrong intensity_scale: .* nan"),
    "a scale of text": (_set(intensity_scale="1"), "wrong intensity_scale: .* '1'"),
    "a history of text": (_set(history={"train_loss": ["x"]}), "wrong history.train_loss.0: .*'x'"),
    "a legacy value of lists": (_set(legacy={"label": [1]}), "wrong legacy.label"),
    "no configuration": (_set(config=[]), "wrong config: .*dictionary"),
    "an unknown field": (_set(config={"nepoch": 3}), "unknown keys nepoch"),
    "a field of a wrong kind": (_set_model(N="64"), "configuration that this version"),
    "a model of nothing": (_set(config={"model": 3}), "configuration that this version"),
    "an unknown architecture": (_set_model(architecture="x"), "no architecture 'x'"),
    "another width": (_set_model(unrolled_width=12), f"'{WEIGHTS}' does not fit"),
    "another N": (_set_model(N=64), f"'{WEIGHTS}' has a probe of shape"),
    "a huge network": (_set_model(unrolled_width=4000), f"'{WEIGHTS}' does not fit"),
    "an absurd network": (_set_model(unrolled_steps=10**9), "unrolled_steps=1000000000"),
    "no tensors": (_weights(), f"'{WEIGHTS}' has a probe of shape"),
    "a tensor too many": (
        lambda m: _weights(**_tensors(m), more=torch.zeros(1))(m),
        r"unexpected \['more'\]",
    ),
    "values that are no numbers": (
        lambda m: _weights(**{k: v * float("nan") for k, v in _tensors(m).items()})(m),
        "not finite",
    ),
    "weights that are no file": (lambda m: m.update({WEIGHTS: b"x" * 99}), "no safetensors file"),
    "a header that lies": (
        lambda m: m.update({WEIGHTS: m[WEIGHTS] + b"x"}),
        f"'{WEIGHTS}' has another size",
    ),
    "a header of the wrong kind": (
        lambda m: m.update({WEIGHTS: (2).to_bytes(8, "little") + b"[]"}),
        f"'{WEIGHTS}' is no safetensors file",
    ),
    "a manifest of another backend": (
        lambda m: m.update({"manifest.dill": pickle.dumps({"models": [], "version": "1.0"})}),
        f"'manifest.dill' names another backend than '{INDEX}'",
    ),
    "params that are no dictionary": (
        lambda m: m.update({PARAMS: pickle.dumps([1])}),
        f"'{PARAMS}' is no dictionary",
    ),
    "an archive within": (_nested, "'more/wts.h5.zip' is an archive inside an archive"),
    "swapped params and manifest": (_swap("manifest.dill", PARAMS), "'manifest.dill' lacks"),
    "a way up": (lambda m: m.update({"../evil.py": b"x"}), "'../evil.py' has an unsafe name"),
    "a bomb": (lambda m: m.update(bomb=bytes(10**7)), "'bomb'"),
}
#: Those that leave no index to write digests into.
NO_INDEX = ("an index that is cut", "an index of lists", "a deep index", "a number of digits")


def _tensors(members):
    from safetensors.torch import load

    return load(members[WEIGHTS])


@pytest.mark.parametrize("kind", DAMAGED)
def test_damage_is_found_by_the_digest_of_the_member(bundle, tmp_path, kind):
    change, message = DAMAGED[kind]
    _rewrite(ps.save_bundle(bundle, tmp_path), change)
    with pytest.raises(DataContractError, match=message):
        ps.load_bundle(tmp_path)


@pytest.mark.parametrize("kind", HOSTILE)
def test_a_hostile_archive_is_refused_with_the_member_named(bundle, tmp_path, kind):
    change, message = HOSTILE[kind]
    path = ps.save_bundle(bundle, tmp_path)
    consistent = kind not in NO_INDEX
    _rewrite(path, change, consistent=consistent)
    with pytest.raises(DataContractError, match=message):
        ps.load_bundle(tmp_path)


def test_a_member_that_is_not_listed_is_refused(bundle, tmp_path):
    path = ps.save_bundle(bundle, tmp_path)
    _rewrite(path, lambda m: m.update({"extra.py": b"x"}))
    with pytest.raises(DataContractError, match=r"'extra.py' is not listed"):
        ps.load_bundle(path)


@pytest.mark.parametrize("part", [0.1, 0.5, 0.99])
def test_a_cut_archive_is_refused(bundle, tmp_path, part):
    path = ps.save_bundle(bundle, tmp_path)
    data = path.read_bytes()
    path.write_bytes(data[: int(part * len(data))])
    with pytest.raises(DataContractError, match="not a readable archive"):
        ps.load_bundle(tmp_path)


class Canary:
    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return (os.mkdir, (self.path,))


def _poisons(canary):
    torch_poison = io.BytesIO()
    torch.save({"x": Canary(canary)}, torch_poison)
    return {
        "pickle": pickle.dumps(Canary(canary)),
        "pickle in a dictionary": pickle.dumps({"backend": "pytorch", "N": Canary(canary)}),
        "torch": torch_poison.getvalue(),
    }


@pytest.mark.parametrize("kind", ["pickle", "pickle in a dictionary", "torch"])
@pytest.mark.parametrize(
    "member", ["manifest.dill", "autoencoder/params.dill", PARAMS, WEIGHTS, INDEX]
)
@pytest.mark.parametrize("consistent", [False, True], ids=["as it is", "with its digest"])
def test_a_pickle_in_any_member_is_refused_and_never_runs(
    bundle, tmp_path, member, kind, consistent
):
    path = ps.save_bundle(bundle, tmp_path)
    canary = tmp_path / "canary"
    poison = _poisons(str(canary))[kind]
    _rewrite(path, lambda m: m.update({member: poison}), consistent=consistent and member != INDEX)
    with pytest.raises(DataContractError, match=f"'{member}'"):
        ps.load_bundle(tmp_path)
    assert not canary.exists()


def test_a_description_of_a_huge_network_takes_no_memory(bundle, tmp_path):
    path = ps.save_bundle(bundle, tmp_path)
    # 4000 channels of 3 x 3 filters in two layers a step: over a gigabyte.
    _rewrite(path, _set_model(unrolled_width=4000, unrolled_steps=4), consistent=True)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    with pytest.raises(DataContractError, match="does not fit"):
        ps.load_bundle(tmp_path)
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 100 * 1024


def test_a_missing_archive_is_named(tmp_path):
    with pytest.raises(MissingFileError, match=r"wts\.h5\.zip"):
        ps.load_bundle(tmp_path)


@pytest.mark.parametrize("inside", ["", "run/"])
def test_a_zipped_model_folder_opens_too(bundle, tmp_path, inside):
    folder = tmp_path / "saved" / inside
    ps.save_bundle(bundle, folder)
    (folder / "checkpoints").mkdir()
    (folder / "checkpoints" / "größe.txt").write_text("0" * 10**6)
    (folder / "checkpoints" / "Größe.txt").write_text("12:30")
    outer = shutil.make_archive(str(tmp_path / "model"), "zip", root_dir=tmp_path / "saved")
    loaded = ps.load_bundle(outer)
    assert loaded.config == bundle.config
    with open_archive(Path(outer)) as members:
        assert kind_of(members) == "ptychostream"
    inputs = _inputs(bundle)
    np.testing.assert_array_equal(loaded.predict(inputs), bundle.predict(inputs))


def test_a_bomb_in_a_zipped_folder_takes_no_memory(tmp_path):
    with zipfile.ZipFile(tmp_path / "model.zip", "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("wts.h5.zip", bytes(10**8))
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    with pytest.raises(DataContractError, match=r"member 'wts.h5.zip' has 100000000 bytes, over"):
        ps.load_bundle(tmp_path / "model.zip")
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 50 * 1024


def test_a_zipped_folder_of_several_archives_or_of_a_zipped_folder_is_refused(bundle, tmp_path):
    for name in ("a", "b"):
        ps.save_bundle(bundle, tmp_path / "saved" / name)
    outer = shutil.make_archive(str(tmp_path / "model"), "zip", root_dir=tmp_path / "saved")
    with pytest.raises(DataContractError, match=r"several archives: 'a/wts.h5.zip', 'b/wts"):
        ps.load_bundle(outer)
    with zipfile.ZipFile(tmp_path / "twice.zip", "w") as archive:
        archive.write(outer, "wts.h5.zip")
    with pytest.raises(DataContractError, match="no model archive"):
        ps.load_bundle(tmp_path / "twice.zip")
    damaged = tmp_path / "saved" / "a" / "wts.h5.zip"
    _rewrite(damaged, DAMAGED["weights"][0])
    outer = shutil.make_archive(str(tmp_path / "one"), "zip", root_dir=tmp_path / "saved" / "a")
    with pytest.raises(DataContractError, match=f"'wts.h5.zip': member '{WEIGHTS}' fails"):
        ps.load_bundle(outer)


def test_an_archive_of_the_other_backend_is_refused_with_both_named(bundle, tmp_path):
    path = write_archive(bundle, tmp_path / "mine.zip")
    assert ps.load_bundle(path, backend="pytorch").config == bundle.config
    with pytest.raises(DataContractError, match=r"pytorch backend but the tensorflow backend"):
        ps.load_bundle(path, backend="tensorflow")
