"""Stores that agree with their manifest, and yet hold what no build has written."""

import hashlib
import json
import shutil
from dataclasses import replace

import numpy as np
import pytest

import ptychostream as ps
from ptychostream.datasets.store.manifest import list_files, manifest_bytes
from ptychostream.datasets.store.storage import StoreFiles
from ptychostream.datasets.store.tables import encoded_tables
from ptychostream.errors import DataContractError


@pytest.fixture
def copied(tiny_store, tmp_path):
    without = shutil.ignore_patterns("groupings")
    return shutil.copytree(tiny_store.path, tmp_path / "s.zarr", ignore=without)


def _sealed(folder):
    """Make the manifest agree with what the folder holds now."""
    storage = StoreFiles.of_folder(folder)
    files = {name: (size, storage.digest(name)) for name, size in list_files(storage).items()}
    storage.write("manifest.json", manifest_bytes(files))
    return folder


def _with_record(folder, name, change):
    path = folder / name
    record = json.loads(path.read_text())
    change(record)
    path.write_text(json.dumps(record))
    return _sealed(folder)


def _with_table(folder, name, values):
    shutil.rmtree(folder / name)
    for file, data in encoded_tables({name: values}):
        if file.startswith(f"{name}/"):
            (folder / file).parent.mkdir(parents=True, exist_ok=True)
            (folder / file).write_bytes(data)
    return _sealed(folder)


WRONG_ATTRIBUTES = [
    ("patterns_per_chunk", 0),
    ("patterns_per_chunk", -1),
    ("patterns_per_chunk", "8"),
    ("patterns_per_chunk", 16),
    ("measurement_domain", "evil"),
    ("whole_counts", "x"),
    ("growing", "no"),
    ("probe_modes", [0]),
    ("probe_modes", [2]),
    ("probe_modes", [1, 1]),
    ("metadata", []),
    ("metadata", [{"energy_eV": "8 keV"}]),
    ("metadata", [{"nphotons": float("nan")}]),
    ("metadata", [{"surprise": 1}]),
    ("provenance", None),
    ("provenance", ["a"]),
    ("warnings", [1]),
    ("compacted", "x"),
    ("fingerprint", 3),
    ("version", [1]),
    ("version", "1.2"),
    ("version", ["one", 2]),
    ("format", None),
]


@pytest.mark.parametrize(("name", "value"), WRONG_ATTRIBUTES, ids=str)
def test_an_attribute_of_another_kind_or_range_is_refused_by_name(copied, name, value):
    def change(record):
        record["attributes"]["ptychostream"][name] = value

    _with_record(copied, "zarr.json", change)
    with pytest.raises(DataContractError, match=r"s\.zarr' (is damaged|has format)") as caught:
        ps.open_group_store(copied)
    assert name in str(caught.value) or "chunk" in str(caught.value)


@pytest.mark.parametrize("name", ["format", "version", "measurement_domain", "probe_modes"])
def test_an_attribute_that_is_missing_is_named(copied, name):
    _with_record(copied, "zarr.json", lambda r: r["attributes"]["ptychostream"].pop(name))
    with pytest.raises(DataContractError, match=name):
        ps.open_group_store(copied)


def test_attributes_of_a_later_minor_version_are_left_alone(copied):
    def change(record):
        record["attributes"]["ptychostream"] |= {"version": [1, 9], "later": [1]}

    _with_record(copied, "zarr.json", change)
    assert ps.open_group_store(copied).num_patterns == 64


HUGE = 10**12


@pytest.mark.parametrize(
    ("file", "shape"),
    [
        ("positions", [HUGE, 2]),
        ("experiment_id", [10**9]),
        ("energy", [-1]),
        ("energy", ["64"]),
        ("probe", [HUGE, 1, 16, 16]),
        ("probe", [1, 10**7, 16, 16]),
        ("bad_pixels", [10**9, 16, 16]),
        ("bad_pixels", [2, 16, 16]),
        ("diffraction", [HUGE, 16, 16]),
        ("diffraction", [64, 16, HUGE]),
        ("diffraction", [64, 256]),
        ("diffraction", [0, 16, 16]),
        ("scan_index", [63]),
    ],
    ids=str,
)
def test_sizes_that_do_not_fit_each_other_take_no_memory(copied, file, shape):
    _with_record(copied, f"{file}/zarr.json", lambda record: record.update(shape=shape))
    with pytest.raises(DataContractError, match=r"s\.zarr'"):
        ps.open_group_store(copied)


def test_all_sizes_blown_up_together_take_no_memory(copied):
    number = 10**11
    for name in ("diffraction", "positions", "experiment_id", "scan_index", "energy"):

        def change(record):
            record["shape"][0] = number
            grid = record["chunk_grid"]["configuration"]
            grid["chunk_shape"][0] = number // 8 * 8

        _with_record(copied, f"{name}/zarr.json", change)
    with pytest.raises(DataContractError, match="damaged|declares"):
        ps.open_group_store(copied)


@pytest.mark.parametrize(
    ("name", "values", "told"),
    [
        ("storage_order", np.zeros(64, np.int64), "no permutation"),
        ("storage_order", np.arange(64) + 1, "no permutation"),
        ("storage_order", np.arange(64) - 1, "no permutation"),
        ("experiment_id", np.full(64, 7), "experiment 7, but 1 experiments"),
        ("experiment_id", np.full(64, -1), "experiment -1"),
        ("positions", np.full((64, 2), np.nan), "'positions' holds infinite values or NaN"),
        ("positions", np.zeros((64, 2), np.int64), "'positions' is int64"),
        ("probe", np.full((1, 1, 16, 16), np.inf, np.complex64), "'probe' holds"),
        ("probe", np.ones((1, 1, 16, 16)), "'probe' is float64"),
    ],
    ids=str,
)
def test_tables_that_no_scan_has_are_refused_by_name(copied, name, values, told):
    _with_table(copied, name, values)
    with pytest.raises(DataContractError, match=told):
        ps.open_group_store(copied)


@pytest.mark.parametrize("name", ["../../etc/passwd", "/etc/passwd", "a/../../b"])
def test_files_outside_the_store_belong_to_no_store(copied, name):
    storage = StoreFiles.of_folder(copied)
    files = {n: (size, storage.digest(n)) for n, size in list_files(storage).items()}
    storage.write("manifest.json", manifest_bytes(files | {name: (3, "0")}))
    with pytest.raises(DataContractError, match="outside the store"):
        ps.open_group_store(copied)


def test_an_object_with_an_unknown_codec_is_refused_by_name(copied):
    def change(record):
        record["codecs"][1]["name"] = "evil"

    _with_record(copied, "object_guess/0/zarr.json", change)
    with pytest.raises(DataContractError, match="object_guess/0"):
        _ = ps.open_group_store(copied).object_guess


@pytest.mark.parametrize("change", ["far", "negative", "flat", "float"])
def test_a_kept_grouping_that_names_no_patterns_of_the_store_is_refused(copied, change):
    store = ps.open_group_store(copied)
    table = store.groups(2, 6).nn_indices.copy()
    table = {
        "far": table + 64,
        "negative": table - 64,
        "flat": table.ravel(),
        "float": table.astype(float),
    }[change]
    folder = next((copied / "groupings").iterdir())
    shutil.rmtree(folder / "nn_indices")
    for file, data in encoded_tables({"nn_indices": table}):
        if file.startswith("nn_indices"):
            (folder / file).parent.mkdir(parents=True, exist_ok=True)
            (folder / file).write_bytes(data)
    record = json.loads((folder / "grouping.json").read_text())
    record["sha256"] = hashlib.sha256(np.ascontiguousarray(table).data).hexdigest()
    (folder / "grouping.json").write_text(json.dumps(record))
    with pytest.raises(DataContractError, match="grouping in .* is damaged"):
        store.groups(2, 6)


def test_metadata_that_are_no_finite_numbers_never_reach_a_store(tiny_scan, tmp_path):
    with pytest.raises(DataContractError, match="nphotons is nan"):
        replace(tiny_scan, metadata=replace(tiny_scan.metadata, nphotons=float("nan")))
