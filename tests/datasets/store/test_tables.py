import numpy as np
import pytest
import zarr

from ptychostream.datasets.store.tables import decoded_table, encoded_tables


def _reader(files):
    def read(name):
        try:
            return bytes(files[name])
        except KeyError:
            raise FileNotFoundError(name) from None

    return read


@pytest.mark.parametrize("dtype", ["float64", "int64", "bool", "complex64"])
@pytest.mark.parametrize("shape", [(7,), (5, 2), (2, 1, 4, 4), (0, 2)])
def test_tables_come_back(dtype, shape):
    values = np.random.default_rng(0).uniform(-3, 3, shape).astype(dtype)
    files = dict(encoded_tables({"a/b": values}))
    table = decoded_table("a/b", _reader(files))
    assert table.dtype == values.dtype
    np.testing.assert_array_equal(table, values)


def test_a_table_in_several_chunks_is_what_zarr_reads():
    files = {}
    group = zarr.create_group(zarr.storage.MemoryStore(files))
    array = group.create_array(
        "t", shape=(10, 3), chunks=(4, 2), dtype="float64", compressors=zarr.codecs.ZstdCodec()
    )
    array[:7] = np.random.default_rng(0).normal(size=(7, 3))
    # The last chunks hold nothing but zeros: zarr does not write them.
    assert "t/c/2/0" not in files
    table = decoded_table("t", _reader({n: v.to_bytes() for n, v in files.items()}))
    np.testing.assert_array_equal(table, array[...])


def test_a_table_with_other_codecs_is_refused():
    files = {}
    group = zarr.create_group(zarr.storage.MemoryStore(files))
    group.create_array("t", data=np.arange(4.0), compressors=zarr.codecs.GzipCodec())
    with pytest.raises(ValueError, match="'t' has codecs"):
        decoded_table("t", _reader({n: v.to_bytes() for n, v in files.items()}))
