"""Encode and decode shards: files in zarr's sharding format, without zarr's machinery.

Zarr's own reader takes three times as long a chunk, most of it between its tasks; training
waits for chunks, so that this page of code pays. Zarr reads the files that are written here;
files of another layout are read by zarr.

Within a chunk the pattern axis is the last one: a pixel's values in neighbouring patterns are of
one size, so their high bits are zero together, and compress.
"""

from contextlib import AbstractContextManager, nullcontext
from threading import Lock
from typing import Any

import google_crc32c
import numpy as np
from numcodecs import blosc
from numpy.typing import NDArray

from ptychostream.datasets.store.format import CODEC, COMPRESSION_LEVEL, DIFFRACTION
from ptychostream.datasets.store.pattern_array import PatternArray
from ptychostream.datasets.store.storage import StoreFiles
from ptychostream.errors import DataContractError, StorageError

#: Offset and length in the index of a chunk that was never written.
_MISSING = 2**64 - 1
_CRC_BYTES = 4

#: Pixels that are transposed together: their rows in the chunk fit into the first cache.
_BLOCK = 64


def shard_file(shard: int) -> str:
    """Name the file of a shard."""
    return f"{DIFFRACTION}/c/{shard}/0/0"


def encode_shard(
    patterns: NDArray[Any], *, patterns_per_chunk: int, chunks_per_shard: int
) -> bytes:
    """Compress patterns into the bytes of a shard.

    Parameters
    ----------
    patterns : (R, N, N)
        At most as many patterns as a shard holds.
    """
    index = np.full((chunks_per_shard, 2), _MISSING, "<u8")
    parts, at = [], 0
    for number, start in enumerate(range(0, len(patterns), patterns_per_chunk)):
        chunk = patterns[start : start + patterns_per_chunk]
        if len(chunk) < patterns_per_chunk:
            chunk = np.zeros((patterns_per_chunk, *patterns.shape[1:]), patterns.dtype)
            chunk[: len(patterns) - start] = patterns[start:]
        turned = np.empty((*chunk.shape[1:], len(chunk)), chunk.dtype)
        _transpose(chunk.reshape(len(chunk), -1), turned.reshape(-1, len(chunk)))
        encoded = blosc.compress(turned, CODEC.encode(), COMPRESSION_LEVEL, blosc.BITSHUFFLE)
        index[number] = at, len(encoded) + _CRC_BYTES
        parts += [encoded, _checksum(encoded)]
        at += len(encoded) + _CRC_BYTES
    table = index.tobytes()
    return b"".join([*parts, table, _checksum(table)])


def index_length(array: PatternArray) -> int:
    """Return the bytes at the end of a shard that tell where its chunks lie."""
    return 16 * (array.shards[0] // array.chunks[0]) + _CRC_BYTES


class GoneError(DataContractError):
    """The file of a chunk has been removed."""


class ShardReader:
    """The chunks of an array of patterns, each checked against its CRC32C.

    Parameters
    ----------
    sizes : dict
        Bytes of each shard, by file name.
    transposed : bool
        Whether the pattern axis is the last one within a chunk.
    digests : dict, optional
        SHA-256 of each shard, by which parts of it are found in a cache.
    """

    def __init__(
        self,
        storage: StoreFiles,
        sizes: dict[str, int],
        *,
        chunks_per_shard: int,
        transposed: bool,
        digests: dict[str, str] | None = None,
    ) -> None:
        self._storage, self._sizes = storage, sizes
        self._chunks_per_shard = chunks_per_shard
        self._transposed, self._digests = transposed, digests or {}
        self._indices: dict[int, NDArray[np.uint64]] = {}
        self._index_locks: dict[int, Lock] = {}

    @classmethod
    def for_array(
        cls, sizes: dict[str, int], array: PatternArray, digests: dict[str, str] | None = None
    ) -> "ShardReader | None":
        """Make a reader for an array, if it has a layout that `build` writes or wrote."""
        transposed = array.is_transposed()
        if transposed is None:
            return None
        return cls(
            array.storage,
            sizes,
            chunks_per_shard=array.shards[0] // array.chunks[0],
            transposed=transposed,
            digests=digests,
        )

    def read_into(
        self,
        chunk: int,
        out: NDArray[Any],
        decoding: AbstractContextManager[Any] | None = None,
    ) -> None:
        """Decode one chunk; the last one is filled up with zeros. See `StoredChunks.read_chunk`."""
        shard, number = divmod(chunk, self._chunks_per_shard)
        data = self._encoded(shard, number, chunk)
        with decoding or nullcontext():
            try:
                self._decode(data, out)
            except (RuntimeError, ValueError) as error:
                raise self._damaged(chunk, shard, str(error)) from error

    def _decode(self, data: bytes, out: NDArray[Any]) -> None:
        if not self._transposed:
            # A view of bytes: the decoder writes into it without a copy.
            blosc.decompress(data, out.reshape(-1).view(np.uint8))
            return
        turned = np.empty((out[0].size, len(out)), out.dtype)
        blosc.decompress(data, turned.reshape(-1).view(np.uint8))
        _transpose(turned, out.reshape(len(out), -1))

    def _encoded(self, shard: int, number: int, chunk: int) -> bytes:
        name = shard_file(shard)
        try:
            if shard not in self._indices:
                # Chunks of a shard are read together: one of them fetches the index.
                with self._index_locks.setdefault(shard, Lock()):
                    if shard not in self._indices:
                        self._indices[shard] = self._read_index(shard, chunk)
            offset, extent = self._indices[shard][number].tolist()
            if _MISSING in (offset, extent):
                raise self._damaged(chunk, shard, "it was never written")
            data = self._read(name, offset, extent)
        except (FileNotFoundError, KeyError) as error:
            raise GoneError(
                str(self._damaged(chunk, shard, "the file is gone; was the store replaced?"))
            ) from error
        except OSError as error:
            if isinstance(error, StorageError):
                raise
            raise StorageError(
                f"chunk {chunk} in '{self._storage}/{name}' can't be read: {error}; see to its "
                "disk and permissions, then go on"
            ) from error
        if len(data) != extent or not _is_intact(data):
            raise self._damaged(chunk, shard, "it fails its checksum")
        return data[:-_CRC_BYTES]

    def _read(self, name: str, start: int, length: int) -> bytes:
        return self._storage.read(name, start, length, digest=self._digests.get(name))

    def _read_index(self, shard: int, chunk: int) -> NDArray[np.uint64]:
        name, length = shard_file(shard), 16 * self._chunks_per_shard + _CRC_BYTES
        table = self._read(name, max(self._sizes[name] - length, 0), length)
        if len(table) != length or not _is_intact(table):
            raise self._damaged(chunk, shard, "the shard's index fails its checksum")
        return np.frombuffer(table[:-_CRC_BYTES], "<u8").reshape(-1, 2)

    def _damaged(self, chunk: int, shard: int, reason: str) -> DataContractError:
        return DataContractError(
            f"chunk {chunk} in '{self._storage}/{shard_file(shard)}' is damaged ({reason}); run "
            "`ptychostream verify`, then copy or build the store again"
        )


def _transpose(source: NDArray[Any], out: NDArray[Any]) -> None:
    """Write (A, B) into (B, A); in blocks, which takes a fifth of NumPy's time."""
    for start in range(0, max(source.shape), _BLOCK):
        if source.shape[0] >= source.shape[1]:
            out[:, start : start + _BLOCK] = source[start : start + _BLOCK].T
        else:
            out[start : start + _BLOCK] = source[:, start : start + _BLOCK].T


def _checksum(data: bytes) -> bytes:
    return int(google_crc32c.value(data)).to_bytes(_CRC_BYTES, "little")


def _is_intact(data: bytes) -> bool:
    return data[-_CRC_BYTES:] == _checksum(data[:-_CRC_BYTES])
