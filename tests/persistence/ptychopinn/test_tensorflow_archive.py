"""Archives of the TensorFlow backend, put together here from what such archives hold.

`keras_graphs.json` holds the layers of models that Keras wrote, `tensorflow_params.dill` a
dictionary that TensorFlow and dill wrote; the weights are those of `cnn_forward.npz`, and
`upstream_forward.npz` what the TensorFlow model makes of them.
"""

import functools
import io
import json
import pickle
import sys
import zipfile
from dataclasses import replace
from pathlib import Path

import h5py
import numpy as np
import pytest
import torch

import ptychostream as ps
from ptychostream import legacy
from ptychostream.cli.main import main
from ptychostream.errors import DataContractError
from ptychostream.models.ptychopinn import merge_group
from ptychostream.plain_pickle import loads_plain
from ptychostream.workflows import load_inference_bundle

DATA = Path(__file__).parents[2] / "data"
GRAPHS = json.loads((DATA / "keras_graphs.json").read_text())
MODELS = json.loads((DATA / "cnn_models.json").read_text())
SCALE = 31.25
KERAS, PARAMS = "diffraction_to_obj/model.keras", "diffraction_to_obj/params.dill"


def _convolutions(graph):
    return [layer["name"] for layer in graph["config"]["layers"] if layer["class_name"] == "Conv2D"]


@functools.cache
def _weights(tag):
    """Kernel and bias of each layer, in the shapes of our network."""
    from ptychostream.models.generators import build_generator
    from ptychostream.persistence.ptychopinn.keras_export import _in_keras_order

    network = build_generator(_model_config(tag))
    starts, found = dict(MODELS[tag]["order"]), {}
    for name, ours in zip(_convolutions(GRAPHS[tag]), _in_keras_order(network), strict=True):
        out, into = network.get_submodule(ours).weight.shape[:2]
        k = np.arange(9 * into * out)
        kernel = np.sin(0.7 * k + starts[name]) * np.sqrt(2 / (9 * into))
        bias = 0.01 * np.sin(0.7 * np.arange(out) + starts[name] + 1)
        found[name] = (kernel.reshape(3, 3, into, out).astype("f4"), bias.astype("f4"))
    return found


def _model_config(tag):
    return ps.ModelConfig(**({"n_filters_scale": 1} | MODELS[tag]["config"]))


def _numbers(tag, *, named=True, change=None):
    """Write the weights as Keras does; older versions do not name the layers."""
    buffer = io.BytesIO()
    weights = _weights(tag)
    with h5py.File(buffer, "w") as file:
        for number, name in enumerate(_convolutions(GRAPHS[tag])):
            group = file.create_group(f"layers/conv2d{f'_{number}' if number else ''}/vars")
            if named:
                group.attrs["name"] = name
            group["0"], group["1"] = weights[name]
        if change is not None:
            change(file)
    return buffer.getvalue()


@functools.cache
def _whole_keras(tag):
    return _keras(tag)


def _keras(tag, *, graph=None, **options):
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        archive.writestr("metadata.json", "{}")
        archive.writestr("config.json", json.dumps(graph or GRAPHS[tag]))
        archive.writestr("model.weights.h5", _numbers(tag, **options))
    return buffer.getvalue()


def _members(tag, *, keras=None, **changes):
    values = loads_plain((DATA / "tensorflow_params.dill").read_bytes(), "it")
    values |= legacy.dataclass_to_legacy_dict(_model_config(tag))
    values = {key: value for key, value in (values | changes).items() if value is not None}
    manifest = {"models": ["autoencoder", "diffraction_to_obj"], "version": "1.0"}
    return {
        "manifest.dill": pickle.dumps(manifest),
        "diffraction_to_obj/custom_objects.dill": b"never read",
        KERAS: _whole_keras(tag) if keras is None else keras,
        "diffraction_to_obj/model.h5": b"never read",
        PARAMS: pickle.dumps(values),
    }


def _write(folder, members):
    folder.mkdir(exist_ok=True)
    with zipfile.ZipFile(folder / "wts.h5.zip", "w") as archive:
        for name, data in members.items():
            archive.writestr(name, data)
    return folder / "wts.h5.zip"


@pytest.fixture
def archive(tmp_path):
    return _write(tmp_path / "run", _members("gs2_f1"))


@pytest.mark.parametrize("tag", GRAPHS)
def test_a_tensorflow_model_gives_its_numbers_without_tensorflow(tag, tmp_path, monkeypatch):
    for name in ("tensorflow", "keras", "dill"):
        monkeypatch.setitem(sys.modules, name, None)
    bundle = ps.load_bundle(_write(tmp_path / "run", _members(tag)))
    with np.load(DATA / "cnn_forward.npz") as given, np.load(DATA / "upstream_forward.npz") as out:
        amplitude, patches = given[f"{tag}_X"], given[f"{tag}_obj"]
        offsets, expected = out[f"{tag}_off"], out[f"{tag}_object"]
        predicted = out[f"{tag}_amplitude"]
    scaled = torch.tensor(amplitude).movedim(-1, 1) / SCALE
    with torch.no_grad():
        ours = bundle.model.generator.decode(scaled).movedim(1, -1).numpy()
    np.testing.assert_allclose(ours[:, ::2, 1::2], patches, atol=1e-5)
    both = bundle.autoencode([amplitude, offsets], convention="upstream")
    # Beside the central halves that model's values run up to thousands.
    largest = max(1.0, np.abs(expected).max())
    np.testing.assert_allclose(both.object[:, 1::4, ::4], expected, atol=1e-5 * largest)
    np.testing.assert_allclose(
        both.amplitude[:, 1::4, ::4], predicted, atol=1e-5 * max(1.0, predicted.max())
    )
    once = bundle.predict([amplitude, offsets], convention="upstream")
    np.testing.assert_array_equal(once, both.object)


def test_an_archive_of_type_supervised_is_the_same_network(tmp_path):
    bundle, same = (
        ps.load_bundle(_write(tmp_path / kind, _members("gs1_f1", model_type=kind)))
        for kind in ("supervised", "pinn")
    )
    assert bundle.config.model.model_type == "supervised"
    inputs = [np.random.default_rng(0).random((2, 64, 64, 1)), np.zeros((2, 1, 2, 1))]
    np.testing.assert_array_equal(bundle.predict(inputs), same.predict(inputs))


def test_the_canvas_of_the_other_convention_ends_where_ptychopinns_does():
    # 8 + (2 - 1) · 2 + 2 pixels: whole-pixel displacements, so that slices say what is expected.
    patches = torch.randn(1, 4, 8, 8, dtype=torch.complex64)
    displacement = torch.tensor([[0.0, 0.0], [2.0, 1.0], [5.0, -3.0], [-9.0, 4.0]])
    members, centred = merge_group(patches, -displacement[None, :, None], canvas=12)
    far = np.zeros((2, 52, 52), complex)
    corners = displacement.int().numpy() + 22
    for patch, (column, row) in zip(patches[0].numpy(), corners, strict=True):
        far[0, row : row + 8, column : column + 8] += patch
        far[1, row + 2 : row + 6, column + 2 : column + 6] += 1
    inside = np.zeros((52, 52))
    inside[20:32, 20:32] = 1
    merged = far[0] / (far[1] + 1e-3) * inside
    np.testing.assert_allclose(centred[0], merged[22:30, 22:30], rtol=1e-5)
    for member, (column, row) in zip(members[0].numpy(), corners, strict=True):
        expected = merged[row : row + 8, column : column + 8]
        np.testing.assert_allclose(member, expected, rtol=1e-5)


def test_a_single_pattern_is_the_same_in_both_conventions_where_the_probe_lights(tmp_path):
    bundle = ps.load_bundle(_write(tmp_path / "run", _members("gs1_f1")))
    with np.load(DATA / "cnn_forward.npz") as given:
        inputs = [given["gs1_f1_X"], np.zeros((1, 1, 2, 1), np.float32)]
    ours = bundle.predict(inputs)[:, 16:48, 16:48]
    theirs = bundle.predict(inputs, convention="upstream")[:, 16:48, 16:48]
    # Theirs is divided by 1.001.
    np.testing.assert_allclose(ours, 1.001 * theirs, atol=1e-6)


def test_dictionary_scale_and_provenance_come_along(archive, caplog):
    bundle = ps.load_bundle(archive, restore=None)
    assert bundle.intensity_scale == SCALE
    assert (bundle.config.nphotons, bundle.config.batch_size) == (1e6, 16)
    assert bundle.config.backend == "pytorch"
    assert bundle.legacy["max_position_jitter"] == 10
    assert "TensorFlow" in bundle.provenance["made_by"]
    assert "averaged by the light" in caplog.text
    assert bundle.provenance["differences"][0] in caplog.text
    with np.load(DATA / "upstream_forward.npz") as numbers:
        np.testing.assert_array_equal(bundle.probe_guess[0, 0], numbers["probe"][..., 0])


def test_convert_writes_an_archive_of_ours_that_says_the_same(archive, tmp_path, capsys):
    new = tmp_path / "new.zip"
    assert main(["convert", str(archive), str(new)]) == 0
    assert f"wrote {new}" in capsys.readouterr().out
    before, after = ps.load_bundle(archive), ps.load_bundle(new)
    with np.load(DATA / "cnn_forward.npz") as given, np.load(DATA / "upstream_forward.npz") as out:
        inputs = [given["gs2_f1_X"], out["gs2_f1_off"]]
    np.testing.assert_array_equal(after.predict(inputs), before.predict(inputs))
    assert after.provenance == before.provenance
    assert after.legacy == before.legacy
    with zipfile.ZipFile(new) as members:
        values = pickle.loads(members.read(PARAMS))
    assert values["max_position_jitter"] == 10
    np.testing.assert_allclose(values["probe"][..., 0], before.probe_guess[0, 0], rtol=1e-5)
    # Nothing is overwritten unasked, and nothing is written under a name that will not open.
    assert main(["convert", str(archive), str(new)]) == 1
    assert "exists" in capsys.readouterr().err
    assert main(["convert", str(archive), str(new), "--overwrite"]) == 0
    assert main(["convert", str(archive), str(tmp_path / "new.h5")]) == 1
    assert main(["convert", str(tmp_path / "none.zip"), str(tmp_path / "n.zip")]) == 1


def test_weights_go_back_as_they_came(archive, tmp_path, capsys):
    out = tmp_path / "back.weights.h5"
    assert main(["convert", str(archive), str(out)]) == 0
    assert "load_weights" in capsys.readouterr().out
    with h5py.File(out) as back, h5py.File(io.BytesIO(_numbers("gs2_f1"))) as came:
        assert set(back["layers"]) == set(came["layers"])
        for name, group in came["layers"].items():
            for part in "01":
                np.testing.assert_array_equal(
                    back[f"layers/{name}/vars/{part}"], group["vars"][part]
                )


def test_networks_that_keras_does_not_have_do_not_go_back(tmp_path, capsys):
    words = ["convert", str(DATA / "archive-1.1"), str(tmp_path / "back.weights.h5")]
    assert main(words) == 1
    assert "'unrolled' has no counterpart in Keras" in capsys.readouterr().err


def test_info_says_what_it_is_and_reads_no_weights(archive, capsys):
    members = _members("gs2_f1", keras=b"no weights at all")
    _write(archive.parent, members)
    assert main(["info", str(archive.parent)]) == 0
    said = capsys.readouterr().out
    for text in ("tensorflow", "589360 parameters", "gridsize 2", "31.25", "ptychostream convert"):
        assert text in said
    assert "amp_activation sigmoid" in said


def test_an_archive_of_tensorflow_is_not_taken_for_one_of_pytorch(archive):
    with pytest.raises(DataContractError, match="tensorflow backend but the pytorch backend"):
        ps.load_bundle(archive, backend="pytorch")
    with pytest.raises(DataContractError, match="ptychostream convert"):
        load_inference_bundle(archive, backend="pytorch")
    assert ps.load_bundle(archive, backend="tensorflow").config.model.gridsize == 2


def test_older_files_number_the_layers_and_name_the_folder_otherwise(tmp_path):
    def older(file):
        file.move("layers", "_layer_checkpoint_dependencies")

    new = ps.load_bundle(_write(tmp_path / "new", _members("gs2_f1")))
    keras = _keras("gs2_f1", named=False, change=older)
    old = ps.load_bundle(_write(tmp_path / "old", _members("gs2_f1", keras=keras)))
    for name, weight in new.model.state_dict().items():
        assert torch.equal(old.model.state_dict()[name], weight), name


def test_layers_are_told_apart_by_their_place_not_by_their_names(tmp_path):
    names = {name: f"conv2d_{97 - i}" for i, name in enumerate(_convolutions(GRAPHS["gs2_f1"]))}
    text = json.dumps(GRAPHS["gs2_f1"])
    for old, new in names.items():
        text = text.replace(f'"{old}"', f'"{new}"')

    def rename(file):
        for group in file["layers"].values():
            group["vars"].attrs["name"] = names[group["vars"].attrs["name"]]

    keras = _keras("gs2_f1", graph=json.loads(text), change=rename)
    renamed = ps.load_bundle(_write(tmp_path / "renamed", _members("gs2_f1", keras=keras)))
    plain = ps.load_bundle(_write(tmp_path / "plain", _members("gs2_f1")))
    for name, weight in plain.model.state_dict().items():
        assert torch.equal(renamed.model.state_dict()[name], weight), name


def _graph(change):
    graph = json.loads(json.dumps(GRAPHS["gs2_f1"]))
    change(graph["config"]["layers"])
    return _keras("gs2_f1", graph=graph)


def _change_numbers(change):
    return _keras("gs2_f1", change=change)


def _loop(layers):
    layers[2]["inbound_nodes"] = [{"args": [{"config": {"keras_history": ["obj", 0, 0]}}]}]


def _rename(kind, name):
    def change(layers):
        for layer in layers:
            if layer["class_name"] == kind or layer["name"] == kind:
                layer["name"] = layer["class_name"] = name

    return change


def _outside(file):
    del file["layers/conv2d/vars/0"]
    file["layers/conv2d/vars/0"] = h5py.ExternalLink("/etc/hostname", "/x")


def _raw_outside(file):
    del file["layers/conv2d/vars/1"]
    file["layers/conv2d/vars"].create_dataset(
        "1", (32,), "f4", external=[("/etc/hostname", 0, 128)]
    )


def _huge(file):
    del file["layers/conv2d/vars/1"]
    file["layers/conv2d/vars"].create_dataset("1", (2**40,), "f4", chunks=(2**20,))


def _texts(file):
    del file["layers/conv2d/vars/1"]
    file["layers/conv2d/vars/1"] = np.array([b"x"] * 32)


HOSTILE = {
    "no keras file": (lambda: _members("gs2_f1", keras=b"x"), f"'{KERAS}' is not a readable"),
    "a zip of something else": (
        lambda: _members("gs2_f1", keras=_zip({"a": b"x"})),
        f"'{KERAS}': member 'config.json' can't be read",
    ),
    "a way up within": (
        lambda: _members("gs2_f1", keras=_zip({"../a": b"x"})),
        f"'{KERAS}': member '../a' has an unsafe name",
    ),
    "a bomb within": (
        lambda: _members("gs2_f1", keras=_zip({"config.json": bytes(10**7)})),
        f"'{KERAS}': member 'config.json' is compressed absurdly",
    ),
    "another graph": (
        lambda: _members("gs2_f1", keras=_graph(lambda layers: layers.clear())),
        "'config.json' does not describe PtychoPINN's network: no layer 'obj'",
    ),
    "no graph": (
        lambda: _members("gs2_f1", keras=_keras("gs2_f1", graph={"config": 3})),
        "'config.json' does not describe",
    ),
    "a graph that is a loop": (lambda: _members("gs2_f1", keras=_graph(_loop)), "'"),
    "no phase": (
        lambda: _members("gs2_f1", keras=_graph(_rename("phi", "psi"))),
        "'config.json' does not describe",
    ),
    "too many layers": (
        lambda: _members("gs2_f1", keras=_graph(lambda layers: layers.extend(layers * 99))),
        "'config.json' does not describe",
    ),
    "no weights": (
        lambda: _members("gs2_f1", keras=_change_numbers(lambda f: f.pop("layers"))),
        "'model.weights.h5' can't be read: 'it has no layers'",
    ),
    "a layer too few": (
        lambda: _members("gs2_f1", keras=_change_numbers(lambda f: f.pop("layers/conv2d_3"))),
        "'model.weights.h5' has no weights of layer 'conv2d_3'",
    ),
    "a link to another file": (
        lambda: _members("gs2_f1", keras=_change_numbers(_outside)),
        "'model.weights.h5' can't be read: '/layers/conv2d/vars/0' is a link",
    ),
    "numbers in another file": (
        lambda: _members("gs2_f1", keras=_change_numbers(_raw_outside)),
        "'/layers/conv2d/vars/1' lies in another file",
    ),
    "numbers without end": (
        lambda: _members("gs2_f1", keras=_change_numbers(_huge)),
        r"'/layers/conv2d/vars/1' is float32\(1099511627776,\), expected \(32,\)",
    ),
    "texts": (
        lambda: _members("gs2_f1", keras=_change_numbers(_texts)),
        r"expected \(32,\)",
    ),
    "weights of another network": (
        lambda: _members("gs2_f1") | {KERAS: _keras("gs1_f1")},
        "has no place in the network of gridsize=2",
    ),
    "weights of more layers": (
        lambda: _members("gs2_f1") | {KERAS: _keras("gs2_f1_noprobebig")},
        "has 5 convolutions in its amplitude",
    ),
    "no params": (lambda: _without(PARAMS), f"'{PARAMS}' can't be read"),
    "no models": (lambda: _without(KERAS), "no 'diffraction_to_obj/model.keras'"),
    "no probe": (lambda: _members("gs2_f1", probe=None), f"'{PARAMS}' lacks 'probe'"),
    "a probe of another size": (
        lambda: _members("gs2_f1", probe=np.ones((8, 8), np.complex64)),
        r"has a probe of complex64\(8, 8\)",
    ),
    "a dark probe": (
        lambda: _members("gs2_f1", probe=np.zeros((64, 64), np.complex64)),
        "a probe that is empty",
    ),
    "a scale of text": (lambda: _members("gs2_f1", intensity_scale="x"), "intensity scale 'x'"),
    "no N": (lambda: _members("gs2_f1", N=None), "lacks 'N'"),
    "an N of text": (lambda: _members("gs2_f1", N="64"), "can't be understood"),
    "a huge N": (lambda: _members("gs2_f1", N=10**6), "N = 64, 128 and 256, not 1000000"),
    "a huge network": (
        lambda: _members("gs2_f1", n_filters_scale=10**6),
        "has no place in the network",
    ),
    "another architecture": (
        lambda: _members("gs2_f1", architecture="fno"),
        "describes architecture 'fno'",
    ),
    "an unknown backend": (
        lambda: (
            _members("gs2_f1")
            | {"manifest.dill": pickle.dumps({"models": [], "version": "1", "backend": "jax"})}
        ),
        "'manifest.dill' names the unknown backend 'jax'",
    ),
    "a manifest of nothing": (
        lambda: _members("gs2_f1") | {"manifest.dill": pickle.dumps({})},
        "'manifest.dill' lacks",
    ),
}


def _zip(members):
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, data in members.items():
            archive.writestr(name, data)
    return buffer.getvalue()


def _without(name):
    members = _members("gs2_f1")
    del members[name]
    return members


@pytest.mark.parametrize("kind", HOSTILE)
def test_a_hostile_or_damaged_archive_is_refused_with_the_member_named(kind, tmp_path):
    make, message = HOSTILE[kind]
    with pytest.raises(DataContractError, match=message):
        ps.load_bundle(_write(tmp_path / "run", make()))


class Canary:
    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return (Path.mkdir, (Path(self.path),))


@pytest.mark.parametrize("member", [*_members("gs1_f1", keras=b"")])
def test_a_pickle_in_any_member_never_runs(member, tmp_path):
    canary = tmp_path / "canary"
    poison = pickle.dumps({"N": 64, "gridsize": 1, "probe": Canary(str(canary))})
    path = _write(tmp_path / "run", _members("gs1_f1") | {member: poison})
    if member in ("manifest.dill", KERAS, PARAMS):
        with pytest.raises(DataContractError, match=f"member '{member}'"):
            ps.load_bundle(path)
    else:
        # Members that are of no use here are not even read.
        assert ps.load_bundle(path).config.model.N == 64
    assert not canary.exists()
    pickle.loads(poison)
    assert canary.exists()


def test_a_converted_model_reconstructs_a_store(tmp_path):
    scan = ps.simulate_scan(num_positions=9, N=64, step=6, nphotons=1e5, seed=1)
    store = ps.build_group_store(scan, tmp_path / "s.zarr")
    bundle = ps.load_bundle(_write(tmp_path / "run", _members("gs1_f1")))
    result = ps.reconstruct(bundle, store)
    assert np.isfinite(result.object).all()
    same = replace(bundle, probe_guess=store.probe)
    np.testing.assert_array_equal(ps.reconstruct(same, store).object, result.object)
