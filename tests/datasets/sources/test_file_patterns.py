"""Patterns in a plain file, against the array that was written."""

import os
import pickle
from dataclasses import replace

import numpy as np
import pytest

import ptychostream as ps
from ptychostream.datasets.sources.file_patterns import FilePatterns
from ptychostream.datasets.sources.npz import write_npz
from ptychostream.errors import DataContractError


@pytest.fixture(params=["<u2", ">u4", "<f4"])
def written(request, tmp_path):
    values = np.random.default_rng(0).integers(0, 1000, (20, 6, 6)).astype(request.param)
    path = tmp_path / "patterns.bin"
    path.write_bytes(b"header" + values.tobytes())
    return values, FilePatterns(path, values.shape, values.dtype, 6), path


@pytest.mark.parametrize("rows", [[], [3], [4, 5, 6], [7, 0, 1, 1, 19, 2], range(20)])
def test_rows_come_in_the_order_asked_for(written, rows):
    values, patterns, _ = written
    rows = np.array(rows, dtype=np.int64)
    for source in (patterns, pickle.loads(pickle.dumps(patterns))):
        read = source.read(rows)
        np.testing.assert_array_equal(read, values[rows])
        assert read.dtype == values.dtype


def test_a_file_that_became_shorter_is_named_with_the_pattern(written):
    values, patterns, path = written
    os.truncate(path, 6 + int(7.5 * values[0].nbytes))
    np.testing.assert_array_equal(patterns.read(np.arange(7)), values[:7])
    for rows in ([7], [6, 7, 8, 9]):
        with pytest.raises(DataContractError, match=r"patterns\.bin' ends in .* pattern 7 of 20"):
            patterns.read(np.array(rows))


@pytest.mark.parametrize("row", [-1, 20])
def test_other_rows_do_not_exist(written, row):
    with pytest.raises(IndexError, match="of 20 patterns"):
        written[1].read(np.array([0, row]))


def test_another_file_of_that_name_is_not_read_instead(written):
    values, patterns, path = written
    other = path.with_name("other.bin")
    other.write_bytes(b"longer header" + values[::-1].tobytes())
    copy = pickle.dumps(patterns)
    other.replace(path)
    np.testing.assert_array_equal(patterns.read(np.arange(20)), values)
    with pytest.raises(DataContractError, match=r"patterns\.bin' has changed"):
        pickle.loads(copy)
    path.unlink()
    np.testing.assert_array_equal(patterns.read(np.arange(20)), values)


def test_a_scan_that_is_written_over_its_own_file_stays_what_it_was(tmp_path, tiny_scan):
    path = tmp_path / "scan.npz"
    write_npz(tiny_scan, path, compress=False)
    scan = ps.read_scan(path)
    edited = replace(scan, probe=np.concatenate([scan.probe, scan.probe / 2]))
    write_npz(edited, path, compress=False)
    store = ps.build_group_store(edited, tmp_path / "s.zarr")
    rows = np.arange(64)
    np.testing.assert_array_equal(store.diffraction(rows), tiny_scan.patterns.read(rows))
