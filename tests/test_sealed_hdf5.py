"""HDF5 files that we write end with a checksum, which HDF5 and other programs do not see."""

import h5py
import numpy as np
import pytest

from ptychostream.errors import DataContractError
from ptychostream.hdf5_files import open_hdf5, whole_hdf5


@pytest.fixture
def path(tmp_path):
    with whole_hdf5(tmp_path / "x.h5") as file:
        file["object"] = np.arange(9.0)
        file.attrs["name"] = "first"
    return tmp_path / "x.h5"


def test_other_programs_read_a_sealed_file_and_remove_the_seal_when_they_write(path):
    assert path.read_bytes()[-60:].count(b"ptychostream seal") == 1
    with h5py.File(path, "r+") as file:
        assert file.attrs["name"] == "first"
        file.attrs["name"] = "other"
    assert b"ptychostream seal" not in path.read_bytes()
    with open_hdf5(path) as file:
        assert file.attrs["name"] == "other"


def test_any_flipped_bit_is_found_before_hdf5_sees_it(path):
    data = path.read_bytes()
    for at in range(0, len(data) - 60, 37):
        flipped = bytearray(data)
        flipped[at] ^= 4
        path.write_bytes(flipped)
        with pytest.raises(DataContractError, match=r"x\.h5' can't be read"):
            open_hdf5(path)
    path.write_bytes(data)
    with open_hdf5(path) as file:
        assert file["object"][()].sum() == 36
