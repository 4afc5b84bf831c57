"""Archives whose parts are of another kind or far larger than they look: each is refused."""

import hashlib
import io
import json
import pickle
import struct
import subprocess
import sys
import tracemalloc
import zipfile
from pathlib import Path

import h5py
import numpy as np
import pytest
import torch

import ptychostream as ps
from ptychostream.errors import DataContractError
from ptychostream.models.generators import build_generator
from ptychostream.persistence.archive import write_archive
from ptychostream.persistence.checkpoint import _LIMITS
from ptychostream.persistence.describe import describe_model
from ptychostream.persistence.entries import Members
from ptychostream.persistence.ptychopinn.keras_export import _in_keras_order
from ptychostream.plain_pickle import loads_plain
from ptychostream.training.train import initial_model

DATA = Path(__file__).parents[1] / "data"
GRAPH = json.loads((DATA / "keras_graphs.json").read_text())["gs2_f1"]
PARAMS = "diffraction_to_obj/params.dill"
INDEX = "ptychostream.json"

#: A tuple of two of a tuple of two ...: 2**40 values to whoever goes through them.
SHARED = b"N" + b"".join(b"\x94h%c\x86" % i for i in range(40))
LIST = b"(" * 40 + b"N" + b"".join(b"\x94h%cl" % i for i in range(40))
FLOATS = b"cnumpy\ndtype\nX\x02\0\0\0f8\x85R"
FROM_BUFFER = b"cnumpy.core.numeric\n_frombuffer\n"

ENDLESS = {
    "a key": (b"}" + SHARED + b"Ns.", "a tuple is a key"),
    "a key among several": (b"}(" + SHARED + b"Nu.", "a tuple is a key"),
    "a key of a marked dictionary": (b"(" + SHARED + b"Nd.", "a tuple is a key"),
    "a member of a set": (b"\x8f(" + SHARED + b"\x90.", "a tuple is a key"),
    "a member of a frozen set": (b"(" + SHARED + b"\x91.", "a tuple is a key"),
    "a member of a called set": (
        b"cbuiltins\nset\n](" + SHARED + b"e\x85R.",
        "a tuple is a key",
    ),
    "a key of an ordered dictionary": (
        b"ccollections\nOrderedDict\n](" + SHARED + b"N\x86e\x85R.",
        "a tuple is a key",
    ),
    "a type's code": (b"cnumpy\ndtype\n" + LIST + b"\x85R.", "an array of type list"),
    "a module": (SHARED + b"X\x01\0\0\0x\x93.", "a str of a tuple, expected names"),
    "a shape": (FROM_BUFFER + b"(C\x08" + bytes(8) + FLOATS + SHARED + b"tR.", "shape"),
    "a value": (b"}X\x01\0\0\0a" + SHARED + b"s.", "containers within each other"),
}


def _wide():
    value: list = []
    for _ in range(9):
        value = [value] * 10
    return pickle.dumps({"a": value})


ENDLESS["a wide value"] = (_wide(), "refers to the same values")


@pytest.mark.parametrize("kind", ENDLESS)
def test_values_that_are_shared_over_and_over_are_refused_at_once(kind):
    data, message = ENDLESS[kind]
    code = (
        "import sys; from ptychostream.errors import DataContractError\n"
        "from ptychostream.plain_pickle import loads_plain\n"
        "try: loads_plain(sys.stdin.buffer.read(), 'the dictionary')\n"
        "except DataContractError as error: print(error)"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], input=data, capture_output=True, timeout=20, check=True
    )
    said = done.stdout.decode()
    assert said.startswith("the dictionary is not plain data: ")
    assert message in said
    assert len(said) < 200


SHAPES = {
    "bytes": (b"x", 2**31),
    "a text": ("x", 2**31),
    "a truth value": (True,),
    "a broken number": (1.0,),
    "a number below zero": (-1,),
    "a large number": (0, 2**40),
    "many axes": (1,) * 40,
    "a list": [1],
    "a number alone": 1,
}


@pytest.mark.parametrize("kind", SHAPES)
def test_a_shape_of_anything_but_whole_numbers_is_refused_without_memory(kind):
    shape = pickle.dumps(SHAPES[kind], protocol=2)[2:-1]
    data = FROM_BUFFER + b"(C\x08" + bytes(8) + FLOATS + shape + b"tR."
    tracemalloc.start()
    try:
        with pytest.raises(DataContractError, match="an array's shape"):
            loads_plain(data, "it")
        assert tracemalloc.get_traced_memory()[1] < 2**20
    finally:
        tracemalloc.stop()


def test_one_value_that_serves_many_calls_is_refused():
    text = b"X" + struct.pack("<I", 2**16) + b"x" * 2**16
    call = b"c_codecs\nencode\nh\0\x85R"
    data = b"](" + text + b"\x94" + call * 100 + b"e."
    with pytest.raises(DataContractError, match="its calls make far more than it holds"):
        loads_plain(data, "it")


def test_long_names_do_not_fill_the_message():
    for data in (b"c" + b"x" * 10**5 + b"\ny\n.", b"cnumpy\ndtype\nV" + b"x" * 10**5 + b"\n\x85R."):
        with pytest.raises(DataContractError) as caught:
            loads_plain(data, "it")
        assert len(str(caught.value)) < 200


def _write(folder, members, comment=b""):
    folder.mkdir(exist_ok=True)
    with zipfile.ZipFile(folder / "wts.h5.zip", "w") as archive:
        archive.comment = comment
        for name, data in members.items():
            archive.writestr(name, data)
    return folder / "wts.h5.zip"


def _zip64(entries, *, said_at=None):
    """A file of one name whose zip64 record says more than its end."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        archive.writestr("a", b"x")
    data = buffer.getvalue()
    at, end = data.index(b"PK\1\2"), data.index(b"PK\5\6")
    directory = data[at:end] * entries
    record_at = at + len(directory)
    record = struct.pack(
        "<4sQHHLLQQQQ", b"PK\6\6", 44, 45, 45, 0, 0, entries, entries, len(directory), at
    )
    pointer = struct.pack("<4sLQL", b"PK\6\7", 0, record_at if said_at is None else said_at, 1)
    tail = struct.pack("<4sHHHHLLH", b"PK\5\6", 0, 0, 1, 1, end - at, at, 0)
    return data[:at] + directory + record + pointer + tail


def test_a_zip64_record_can_not_hide_a_large_directory(tmp_path):
    path = tmp_path / "it.zip"
    path.write_bytes(_zip64(120_000))
    tracemalloc.start()
    try:
        with pytest.raises(DataContractError, match=r"it has 120000 members .* at most 64"):
            Members(path, "it")
        # Reading the entries would take tens of MiB.
        assert tracemalloc.get_traced_memory()[1] < 2**20
    finally:
        tracemalloc.stop()


def test_an_honest_zip64_record_is_read(tmp_path):
    with Members(_zip64(1), "it") as members:
        assert members.read("a") == b"x"
    # PyTorch writes one whatever the size.
    torch.save({"a": torch.zeros(2)}, tmp_path / "it.ckpt")
    assert b"PK\6\7" in (tmp_path / "it.ckpt").read_bytes()
    with Members(tmp_path / "it.ckpt", "it", _LIMITS) as members:
        assert members.sizes


def _tensorflow(folder, *, change=None, **changes):
    """Write an archive of that backend."""
    network = build_generator(ps.ModelConfig(N=64, gridsize=2, n_filters_scale=1))
    layers = [x["name"] for x in GRAPH["config"]["layers"] if x["class_name"] == "Conv2D"]
    buffer = io.BytesIO()
    with h5py.File(buffer, "w") as file:
        for i, (name, ours) in enumerate(zip(layers, _in_keras_order(network), strict=True)):
            layer = network.get_submodule(ours)
            group = file.create_group(f"layers/conv2d{f'_{i}' if i else ''}/vars")
            group.attrs["name"] = name
            group["0"] = layer.weight.detach().numpy().transpose(2, 3, 1, 0)
            group["1"] = layer.bias.detach().numpy()
        if change is not None:
            change(file)
    keras = io.BytesIO()
    with zipfile.ZipFile(keras, "w") as archive:
        archive.writestr("config.json", json.dumps(GRAPH))
        archive.writestr("model.weights.h5", buffer.getvalue())
    values = loads_plain((DATA / "tensorflow_params.dill").read_bytes(), "it")
    values |= {"N": 64, "gridsize": 2, "n_filters_scale": 1, "intensity_scale": 2.0} | changes
    members = {
        "manifest.dill": pickle.dumps({"models": ["diffraction_to_obj"], "version": "1.0"}),
        "diffraction_to_obj/model.keras": keras.getvalue(),
        PARAMS: pickle.dumps(values),
    }
    return _write(folder, members)


def test_the_archive_that_the_others_are_made_from_is_read(tmp_path):
    path = _tensorflow(tmp_path / "run")
    assert ps.load_bundle(path, restore=None).config.model.gridsize == 2
    assert dict(describe_model(path))["probe"] == "64 x 64 x 1 px"


def _group(file, name):
    file.create_group(name)


def _dataset(file, name):
    file[name] = np.zeros(3)


HDF5 = {
    "a group for a kernel": ("layers/conv2d/vars/0", _group, "is a group, expected a dataset"),
    "a group for a bias": ("layers/conv2d/vars/1", _group, "is a group, expected a dataset"),
    "a flat kernel": ("layers/conv2d/vars/0", _dataset, r"has shape \(3,\), expected the four"),
    "a dataset for a layer": ("layers/conv2d", _dataset, "is a dataset, expected a group"),
    "a dataset for all layers": ("layers", _dataset, "is a dataset, expected a group"),
    "a dataset for variables": ("layers/conv2d/vars", _dataset, "is a dataset, expected a group"),
}


@pytest.mark.parametrize("kind", HDF5)
def test_hdf5_objects_of_another_kind_are_refused_by_name(kind, tmp_path):
    name, make, message = HDF5[kind]

    def change(file):
        kept = file.get(name).attrs.get("name")
        del file[name]
        make(file, name)
        if kept is not None:
            file[name].attrs["name"] = kept

    path = _tensorflow(tmp_path / "run", change=change)
    with pytest.raises(DataContractError, match=f"'model.weights.h5'.*'/{name}' {message}"):
        ps.load_bundle(path, restore=None)


DICTIONARY = {
    "a ragged probe": ({"probe": [[1.0], [1.0, 2.0]]}, "has a probe that is no array"),
    "an empty probe": ({"probe": np.zeros((64, 64, 0))}, "has a probe of float64"),
    "a probe of no pixels": ({"probe": []}, "has a probe of float64"),
    "a probe of words": ({"probe": "none"}, "has a probe of <U4"),
    "a scale of another kind": ({"intensity_scale": [1]}, "has the intensity scale of type list"),
    "a huge scale": ({"intensity_scale": 10**400}, "has the intensity scale of type int"),
    "a scale below zero": ({"intensity_scale": -1.0}, "has the intensity scale -1.0"),
    "a list for N": ({"N": [64]}, "N"),
}


@pytest.mark.parametrize("reader", [describe_model, ps.load_bundle])
@pytest.mark.parametrize("kind", DICTIONARY)
def test_values_of_another_kind_in_a_dictionary_are_refused(kind, reader, tmp_path):
    changes, message = DICTIONARY[kind]
    path = _tensorflow(tmp_path / "run", **changes)
    with pytest.raises(DataContractError, match=f"wts.h5.zip': member '{PARAMS}' .*{message}"):
        reader(path)


def test_a_huge_network_is_not_described(tmp_path):
    path = _tensorflow(tmp_path / "run", n_filters_scale=10**9)
    with pytest.raises(DataContractError, match=rf"'{PARAMS}' .* n_filters_scale=1000000000"):
        describe_model(path)


@pytest.fixture
def ours(tmp_path, tiny_store, make_config):
    """Write an archive of ours with a changed index, whose digest fits."""
    config = make_config(model={"architecture": "unrolled"})
    bundle = ps.ModelBundle(
        model=initial_model(config, tiny_store, seed=1).eval(),
        config=config,
        intensity_scale=2.0,
        probe_guess=tiny_store.probe,
        history={"train_loss": [1.0]},
    )
    with zipfile.ZipFile(write_archive(bundle, tmp_path / "whole.zip")) as archive:
        members = {name: archive.read(name) for name in archive.namelist()}

    def write(change):
        index = json.loads(members[INDEX])
        change(index)
        members[INDEX] = json.dumps(index).encode()
        digest = hashlib.sha256(members[INDEX]).hexdigest()
        return _write(tmp_path / "run", members, b"sha256:" + digest.encode())

    return write


INDEXES = {
    "probe": [
        ([1], "wrong probe: "),
        ({}, "probe.modes"),
        ({"modes": 3}, "probe.modes: .*tuple, got 3"),
        ({"modes": [1, "x"]}, "probe.modes.1: .* got 'x'"),
    ],
    "models": [
        (["x"], "wrong models: .*dictionary"),
        ({"m": 1}, "wrong models.m: "),
        ({"m": {"outputs": [1]}}, "wrong models.m.outputs.0: .* got 1"),
    ],
    "versions": [("x", "wrong versions: .*dictionary"), ({"torch": {}}, "versions.torch")],
    "parameters": [("x", "wrong parameters: .* got 'x'")],
    "intensity_scale": [(10**400, "wrong intensity_scale")],
    "history": [({"train_loss": [10**400]}, "wrong history.train_loss.0")],
}


@pytest.mark.parametrize("reader", [describe_model, ps.load_bundle])
@pytest.mark.parametrize("key", INDEXES)
def test_an_index_with_an_entry_of_another_kind_is_refused_by_key(key, reader, ours):
    for value, message in INDEXES[key]:
        path = ours(lambda index, value=value: index.update({key: value}))
        with pytest.raises(DataContractError, match=f"run/wts.h5.zip': .*'{INDEX}' .*{message}"):
            reader(path)


@pytest.mark.parametrize("value", [2.5, "2", [2], True, 10**9])
def test_a_size_of_a_network_that_is_no_usual_number_is_refused(value, ours):
    path = ours(lambda index: index["config"]["model"].update(unrolled_steps=value))
    with pytest.raises(DataContractError, match=r"run/wts.h5.zip': member .*unrolled_steps"):
        ps.load_bundle(path, restore=None)


def test_the_unchanged_index_is_read(ours):
    path = ours(lambda index: None)
    assert ps.load_bundle(path, restore=None).intensity_scale == 2.0
    assert "probe" in dict(describe_model(path))
