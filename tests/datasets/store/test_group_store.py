import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import zarr
from hypothesis import given, settings
from hypothesis import strategies as st

import ptychostream as ps
from ptychostream.datasets.store.manifest import list_files, manifest_bytes
from ptychostream.datasets.store.storage import StoreFiles
from ptychostream.errors import DataContractError, MissingFileError, StorageError


@pytest.fixture
def copied(tiny_store, tmp_path):
    # Groupings are kept beside the data by whatever test came before.
    without = shutil.ignore_patterns("groupings")
    return shutil.copytree(tiny_store.path, tmp_path / "copy.zarr", ignore=without)


@given(rows=st.lists(st.integers(0, 63), max_size=40))
@settings(max_examples=40, deadline=None)
def test_any_rows_in_any_order_equal_the_array(tiny_scan, tiny_store, rows):
    expected = tiny_scan.patterns.read(np.array(rows, dtype=np.int64))
    np.testing.assert_array_equal(tiny_store.diffraction(rows), expected)


@pytest.mark.parametrize("rows", [[64], [-1]])
def test_rows_outside_the_store_are_refused(tiny_store, rows):
    with pytest.raises(IndexError, match="0 … 63"):
        tiny_store.diffraction(rows)


def test_groups_are_kept_and_found_again(copied):
    store = ps.open_group_store(copied)
    first = store.groups(2, 6, seed=4)
    assert len(list((copied / "groupings").iterdir())) == 1
    again = ps.open_group_store(copied).groups(2, 6, seed=4)
    np.testing.assert_array_equal(first.nn_indices, again.nn_indices)
    other = store.groups(2, 6, seed=5)
    assert (other.nn_indices != first.nn_indices).any()
    store.verify()


def test_a_damaged_grouping_is_named_and_can_be_deleted(copied):
    store = ps.open_group_store(copied)
    store.groups(2, 6)
    folder = next((copied / "groupings").iterdir())
    record = json.loads((folder / "grouping.json").read_text())
    record["sha256"] = "0" * 64
    (folder / "grouping.json").write_text(json.dumps(record))
    with pytest.raises(DataContractError, match="delete this folder"):
        store.groups(2, 6)
    shutil.rmtree(folder)
    assert len(store.groups(2, 6)) == 64


def test_groups_never_cross_experiments(two_experiments):
    groups = two_experiments.groups(2, 6)
    experiments = two_experiments.experiment_id[groups.nn_indices]
    assert (experiments == experiments[:, :1]).all()


def test_every_flipped_bit_is_found(copied):
    store = ps.open_group_store(copied)
    rng = np.random.default_rng(0)
    for name in list_files(StoreFiles.of_folder(copied)):
        path = copied / name
        data = path.read_bytes()
        at = int(rng.integers(len(data)))
        flipped = bytearray(data)
        flipped[at] ^= 1 << int(rng.integers(8))
        path.write_bytes(flipped)
        with pytest.raises(DataContractError, match=name.replace(".", r"\.")):
            store.verify()
        if not name.startswith("diffraction/c/"):
            with pytest.raises(DataContractError, match=name.replace(".", r"\.")):
                ps.open_group_store(copied)
        path.write_bytes(data)
    store.verify()


def test_a_flipped_bit_in_a_chunk_is_an_error_and_never_data(copied):
    store = ps.open_group_store(copied)
    expected = store.diffraction(np.arange(64))
    path = copied / "diffraction" / "c" / "0" / "0" / "0"
    data = path.read_bytes()
    rng = np.random.default_rng(1)
    refused = 0
    for at in rng.integers(len(data), size=40):
        flipped = bytearray(data)
        flipped[at] ^= 1 << int(rng.integers(8))
        path.write_bytes(flipped)
        try:
            read = ps.open_group_store(copied).diffraction(np.arange(64))
        except DataContractError as error:
            assert "damaged" in str(error)
            refused += 1
        else:
            np.testing.assert_array_equal(read, expected)
    assert refused > 30


@pytest.mark.parametrize("how", ["missing", "truncated", "grown"])
def test_a_wrong_shard_is_named_when_opening(copied, how):
    path = copied / "diffraction" / "c" / "0" / "0" / "0"
    if how == "missing":
        path.unlink()
    else:
        data = path.read_bytes()
        path.write_bytes(data[:-9] if how == "truncated" else data + b"x")
    with pytest.raises(DataContractError, match=r"'diffraction/c/0/0/0' (is missing|has \d+)"):
        ps.open_group_store(copied)


def test_an_unfinished_or_foreign_folder_is_refused(copied, tmp_path):
    (copied / "manifest.json").unlink()
    with pytest.raises(DataContractError, match="not a complete group store"):
        ps.open_group_store(copied)
    with pytest.raises(MissingFileError, match="none"):
        ps.open_group_store(tmp_path / "none.zarr")


def test_a_newer_major_version_is_refused_by_name(copied):
    root = zarr.open_group(copied, mode="r+")
    attributes = root.attrs.asdict()["ptychostream"]
    root.attrs["ptychostream"] = attributes | {"version": [2, 3]}
    storage = StoreFiles.of_folder(copied)
    files = {name: (size, storage.digest(name)) for name, size in list_files(storage).items()}
    storage.write("manifest.json", manifest_bytes(files))
    with pytest.raises(DataContractError, match=r"version 2\.3; this version reads 1\.x"):
        ps.open_group_store(copied)


def test_a_manifest_that_was_changed_is_refused(copied):
    path = copied / "manifest.json"
    path.write_text(path.read_text().replace('"zarr.json"', '"zarr.jsom"', 1))
    with pytest.raises(DataContractError, match="digest does not match"):
        ps.open_group_store(copied)


def test_format_v1_store_still_opens():
    old = ps.open_group_store(Path(__file__).parents[2] / "data" / "store-1.0.zarr")
    old.verify()
    assert old.attributes["version"] == [1, 0]
    assert int(old.diffraction(range(30)).sum()) == 29904
    assert old.positions.sum() == pytest.approx(976.1976231973881)
    # Kept in the store by the version that built it.
    assert old.groups(2, 6, seed=1).nn_indices.sum() == 1762
    assert len(list((old.path / "groupings").iterdir())) == 1


@pytest.mark.parametrize("rows", [np.ones(64, bool), np.array([1.5]), ["a"]])
def test_rows_are_whole_numbers(tiny_store, rows):
    with pytest.raises(IndexError, match="expected whole numbers"):
        tiny_store.diffraction(rows)
    assert tiny_store.diffraction([]).shape == (0, 16, 16)


@pytest.mark.parametrize("error", [StorageError("the network is down"), MemoryError("no room")])
def test_what_keeps_files_from_being_read_is_not_called_damage(
    tiny_store, tmp_path, monkeypatch, error
):
    shutil.copytree(tiny_store.path, tmp_path / "s.zarr")
    store = ps.open_group_store(tmp_path / "s.zarr")
    store.groups(2, 6)

    def fail(storage, name, *part, **options):
        raise error

    monkeypatch.setattr(StoreFiles, "read", fail)
    for read in (
        lambda: store.diffraction([0]),
        lambda: store.groups(2, 6),
        lambda: ps.open_group_store(tmp_path / "s.zarr"),
    ):
        with pytest.raises(type(error)) as caught:
            read()
        assert caught.value is error
