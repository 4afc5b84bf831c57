import pickle
import zipfile
from dataclasses import replace

import numpy as np
import pytest

import ptychostream as ps
from ptychostream.datasets.sources.npz import write_npz
from ptychostream.datasets.store.append import append_patterns
from ptychostream.datasets.store.scans import read_scans
from ptychostream.datasets.store.storage import open_location
from ptychostream.errors import DataContractError, MissingFileError, StorageError
from ptychostream.scan import ArrayPatterns


@pytest.fixture(scope="module")
def store(tiny_scan, tmp_path_factory):
    """A store that has grown once."""
    path = tmp_path_factory.mktemp("store") / "grown.zarr"
    patterns = tiny_scan.patterns.read(np.arange(64))
    for rows in (np.arange(40), np.arange(40, 64)):
        part = replace(
            tiny_scan,
            patterns=ArrayPatterns(patterns[rows]),
            positions=tiny_scan.positions[rows],
            scan_index=None,
        )
        if path.exists():
            append_patterns(path, part)
        else:
            ps.build_group_store(part, path, patterns_per_chunk=2)
    return ps.open_group_store(path)


def zip_of(store, path, prefix="", method=zipfile.ZIP_STORED):
    with zipfile.ZipFile(path, "w", method) as archive:
        for file in sorted(store.path.rglob("*")):
            archive.write(file, prefix + file.relative_to(store.path).as_posix())
    return path


@pytest.mark.parametrize("prefix", ["", "grown.zarr/", "a/b/"])
@pytest.mark.parametrize("method", [zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED])
def test_a_zipped_store_is_the_store(store, prefix, method, tmp_path):
    zipped = ps.open_group_store(zip_of(store, tmp_path / "a b.zarr.zip", prefix, method))
    zipped.verify()
    rows = np.random.default_rng(0).integers(0, 64, 100)
    assert zipped.num_patterns == 64
    assert np.array_equal(zipped.diffraction(rows), store.diffraction(rows))
    assert np.array_equal(zipped.positions, store.positions)
    assert np.array_equal(zipped.object_guess, store.object_guess)
    again = pickle.loads(pickle.dumps(zipped))
    assert np.array_equal(again.diffraction(rows), store.diffraction(rows))


def test_batches_of_a_zipped_store_are_those_of_the_store(store, tmp_path, caplog):
    zipped = ps.open_group_store(zip_of(store, tmp_path / "a.zarr.zip"))
    groups = zipped.groups(2, 6, seed=11)
    assert "is only read" in caplog.text  # the grouping is not kept
    assert np.array_equal(groups.nn_indices, store.groups(2, 6, seed=11).nn_indices)
    ours, theirs = (ps.make_loader(s, groups, batch_size=8) for s in (zipped, store))
    for a, b in zip(ours, theirs, strict=True):
        assert all(np.array_equal(a[key], b[key]) for key in ("diffraction", "coords_relative"))


def test_a_flipped_bit_is_found(store, tmp_path):
    path = zip_of(store, tmp_path / "a.zarr.zip")
    shard = "diffraction/c/0/0/0"
    with zipfile.ZipFile(path) as archive:
        entry = archive.getinfo(shard)
    data = bytearray(path.read_bytes())
    data[entry.header_offset + 30 + len(shard) + entry.file_size // 3] ^= 1
    path.write_bytes(data)
    damaged = ps.open_group_store(path)
    with pytest.raises(DataContractError, match="chunk .* damaged"):
        damaged.diffraction(range(40))
    with pytest.raises(DataContractError, match="damaged"):
        damaged.verify()


def test_nothing_is_written_into_a_zip_file(store, tmp_path):
    path = zip_of(store, tmp_path / "a.zarr.zip")
    storage = open_location(path)
    for change in (lambda: storage.write("a", b""), lambda: storage.remove("zarr.json")):
        with pytest.raises(StorageError, match="is a zip file, which is only read"):
            change()


def test_zip_files_without_one_complete_store_are_refused(tmp_path):
    empty, two = tmp_path / "empty.zip", tmp_path / "two.zip"
    with zipfile.ZipFile(empty, "w") as archive:
        archive.writestr("readme", "")
    with zipfile.ZipFile(two, "w") as archive:
        archive.writestr("a/manifest.json", "")
        archive.writestr("b/manifest.json", "")
    with pytest.raises(MissingFileError, match="no group store"):
        ps.open_group_store(empty)
    with pytest.raises(DataContractError, match="holds 2 complete group stores"):
        ps.open_group_store(two)


def test_other_zip_files_are_what_they_are(tiny_scan, tmp_path):
    write_npz(tiny_scan, tmp_path / "scan.npz")
    assert open_location(tmp_path / "scan.npz").folder == tmp_path / "scan.npz"
    (scan,) = read_scans(tmp_path / "scan.npz")
    assert scan.num_patterns == 64
