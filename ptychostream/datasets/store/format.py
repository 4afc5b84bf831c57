"""The store's format: names, version, codecs and sizes. See docs/reference/store-format.md."""

from typing import Any, Literal

import numpy as np

#: Major versions are refused when newer; minor ones add what older readers may ignore.
FORMAT_VERSION = (1, 2)
FORMAT_NAME = "ptychostream group store"

#: Key of the root group's attributes under which ours stand.
ATTRIBUTES = "ptychostream"
MANIFEST = "manifest.json"
GROUPINGS = "groupings"
DIFFRACTION = "diffraction"
#: Folder of what was appended, and the file that says that nothing more will be.
SEGMENTS = "segments"
FINISHED = "finished.json"

#: Compression of pattern chunks, after bitshuffle.
CODEC: Literal["zstd"] = "zstd"
COMPRESSION_LEVEL = 3

#: Chunks of about this size decode fastest: smaller ones cost calls, larger ones leave the cache.
CHUNK_BYTES = 2 * 2**20
CHUNKS_PER_SHARD = 16


def default_patterns_per_chunk(patch_size: int, itemsize: int) -> int:
    """Choose how many patterns share a chunk.

    Returns
    -------
    int
        A power of two that makes a chunk of about 2 MiB, at least 8.

    Examples
    --------
    >>> default_patterns_per_chunk(64, 2)
    256
    """
    fit = CHUNK_BYTES / (patch_size**2 * itemsize)
    return max(8, 2 ** int(np.log2(max(fit, 1))))


def pattern_codecs() -> dict[str, Any]:
    """Return the codecs of pattern chunks, as `zarr.create_array` takes them.

    The pattern axis becomes the last; then bitshuffle and zstd, and a CRC32C of the result.
    """
    from zarr.codecs import BloscCodec, Crc32cCodec, TransposeCodec

    return {
        "filters": [TransposeCodec(order=(1, 2, 0))],
        "compressors": [
            BloscCodec(cname=CODEC, clevel=COMPRESSION_LEVEL, shuffle="bitshuffle"),
            Crc32cCodec(),
        ],
    }
