import json

import numpy as np
import pytest
import zarr
import zarrs  # noqa: F401  (the pipeline that one test names)

from ptychostream.datasets.store.pattern_array import PatternArray
from ptychostream.datasets.store.shards import ShardReader, encode_shard
from ptychostream.datasets.store.storage import StoreFiles
from ptychostream.datasets.store.tables import encoded_pattern_metadata
from ptychostream.errors import DataContractError


def _reader(storage):
    metadata = json.loads(storage.read("diffraction/zarr.json"))
    return ShardReader.for_array(storage.sizes(), PatternArray(storage, metadata))


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16, np.uint32, np.float32, np.float64])
@pytest.mark.parametrize("length", [1, 7, 8, 24, 61])
def test_zarr_reads_what_is_written_and_the_other_way_round(tmp_path, dtype, length):
    patterns = np.random.default_rng(length).poisson(3, (length, 6, 6)).astype(dtype)
    sizes = {"patterns_per_chunk": 8, "patterns_per_shard": 32}
    storage = StoreFiles.of_folder(tmp_path / "ours")
    for name, data in encoded_pattern_metadata(patterns.shape, patterns.dtype, **sizes).items():
        storage.write(name, data)
    for shard, start in enumerate(range(0, length, 32)):
        encoded = encode_shard(
            patterns[start : start + 32], patterns_per_chunk=8, chunks_per_shard=4
        )
        storage.write(f"diffraction/c/{shard}/0/0", encoded)
    with zarr.config.set({"codec_pipeline.path": "zarrs.ZarrsCodecPipeline"}):
        rust = zarr.open_array(str(tmp_path / "ours"), path="diffraction", mode="r")
        np.testing.assert_array_equal(rust[:], patterns)
    ours = zarr.open_array(str(tmp_path / "ours"), path="diffraction", mode="r")
    np.testing.assert_array_equal(ours[:], patterns)

    theirs = zarr.create_array(
        str(tmp_path / "theirs"),
        name="diffraction",
        shape=patterns.shape,
        dtype=dtype,
        chunks=(8, 6, 6),
        shards=(32, 6, 6),
        filters=ours.filters,
        compressors=ours.compressors,
        config={"write_empty_chunks": True},
    )
    theirs[:] = patterns
    storage = StoreFiles.of_folder(tmp_path / "theirs")
    reader = _reader(storage)
    for chunk, start in enumerate(range(0, length, 8)):
        out = np.empty((8, 6, 6), dtype)
        reader.read_into(chunk, out)
        wanted = patterns[start : start + 8]
        np.testing.assert_array_equal(out[: len(wanted)], wanted)


def test_an_index_that_names_the_wrong_chunk_is_refused(tmp_path):
    patterns = np.random.default_rng(0).poisson(3, (16, 6, 6)).astype(np.uint16)
    sizes = {"patterns_per_chunk": 8, "patterns_per_shard": 16}
    storage = StoreFiles.of_folder(tmp_path)
    for name, data in encoded_pattern_metadata(patterns.shape, patterns.dtype, **sizes).items():
        storage.write(name, data)
    shard = encode_shard(patterns, patterns_per_chunk=8, chunks_per_shard=2)
    first, second, checksum = shard[-36:-20], shard[-20:-4], shard[-4:]
    # Each chunk is whole, and passes its own checksum.
    storage.write("diffraction/c/0/0/0", shard[:-36] + second + first + checksum)
    reader = _reader(storage)
    with pytest.raises(DataContractError, match="chunk 1 .* index fails its checksum"):
        reader.read_into(1, np.empty((8, 6, 6), np.uint16))
