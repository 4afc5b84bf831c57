"""Decode pattern chunks straight from the shard files of a local store.

Zarr's own reader takes three times as long a chunk, most of it between its tasks; windows are what
training waits for, so this is worth a page of code. Anything that is not the layout that `build`
writes is left to zarr.
"""

import os
from pathlib import Path
from typing import Any

import google_crc32c
import numpy as np
from numcodecs import blosc
from numpy.typing import NDArray

from ptychostream.datasets.store.layout import DIFFRACTION
from ptychostream.errors import DataContractError

#: Offset and length in the index of a chunk that was never written.
_MISSING = 2**64 - 1
_CRC_BYTES = 4


class ShardReader:
    """The chunks of a store's patterns, each checked against its CRC32C.

    Parameters
    ----------
    root : Path
        The store's folder.
    shape : (int, int, int)
        Patterns M and their edges N, N.
    dtype : numpy.dtype
        Of the patterns.
    patterns_per_chunk : int
        Patterns that are compressed together.
    chunks_per_shard : int
        Chunks in one file.
    """

    def __init__(
        self,
        root: Path,
        shape: tuple[int, int, int],
        dtype: np.dtype[Any],
        *,
        patterns_per_chunk: int,
        chunks_per_shard: int,
    ) -> None:
        self._root = root / DIFFRACTION / "c"
        self._chunk_shape = (patterns_per_chunk, *shape[1:])
        self._dtype = dtype
        self._chunks_per_shard = chunks_per_shard

    @classmethod
    def for_array(cls, root: Path, array: Any) -> "ShardReader | None":
        """Make a reader for an array, if it has the layout that `build` writes.

        Parameters
        ----------
        root : Path
            The store's folder.
        array : zarr.Array
            The patterns.

        Returns
        -------
        ShardReader or None
            None where zarr has to read it.
        """
        names = [codec.get("name") for codec in array.metadata.to_dict()["codecs"]]
        if names != ["sharding_indexed"] or array.shards is None:
            return None
        sharding = array.metadata.to_dict()["codecs"][0]["configuration"]
        inner = [codec["name"] for codec in sharding["codecs"]]
        index = [codec["name"] for codec in sharding["index_codecs"]]
        plain = inner == ["bytes", "blosc", "crc32c"] and index == ["bytes", "crc32c"]
        little = np.dtype(array.dtype).newbyteorder("<") == np.dtype(array.dtype)
        if not plain or not little or sharding.get("index_location", "end") != "end":
            return None
        return cls(
            root,
            array.shape,
            np.dtype(array.dtype),
            patterns_per_chunk=array.chunks[0],
            chunks_per_shard=array.shards[0] // array.chunks[0],
        )

    def read_into(self, chunk: int, out: NDArray[Any]) -> None:
        """Decode one chunk.

        Parameters
        ----------
        chunk : int
            Which chunk, counted over all shards.
        out : (patterns_per_chunk, N, N)
            Receives the patterns; the store's last chunk is filled up with zeros.

        Raises
        ------
        DataContractError
            If the chunk is missing, or fails its checksum; the message names it and its file.
        """
        shard, number = divmod(chunk, self._chunks_per_shard)
        path = self._root / str(shard) / "0" / "0"
        try:
            handle = os.open(path, os.O_RDONLY)
        except OSError as error:
            raise self._damaged(chunk, path, str(error)) from error
        try:
            data = self._encoded(handle, number, chunk, path)
        finally:
            os.close(handle)
        try:
            # A view of bytes: the decoder writes into it without a copy.
            blosc.decompress(data, out.reshape(-1).view(np.uint8))
        except (RuntimeError, ValueError) as error:
            raise self._damaged(chunk, path, str(error)) from error

    def _encoded(self, handle: int, number: int, chunk: int, path: Path) -> bytes:
        size = os.fstat(handle).st_size
        length = 16 * self._chunks_per_shard + _CRC_BYTES
        index = os.pread(handle, length, max(size - length, 0))
        if len(index) != length or not _is_intact(index):
            raise self._damaged(chunk, path, "the shard's index fails its checksum")
        offset, extent = np.frombuffer(index[:-_CRC_BYTES], "<u8").reshape(-1, 2)[number].tolist()
        if _MISSING in (offset, extent):
            raise self._damaged(chunk, path, "it was never written")
        data = os.pread(handle, extent, offset)
        if len(data) != extent or not _is_intact(data):
            raise self._damaged(chunk, path, "it fails its checksum")
        return data[:-_CRC_BYTES]

    def _damaged(self, chunk: int, path: Path, reason: str) -> DataContractError:
        return DataContractError(
            f"chunk {chunk} in '{path}' is damaged ({reason}); run `ptychostream verify`, then "
            "copy or build the store again"
        )


def _is_intact(data: bytes) -> bool:
    expected = int.from_bytes(data[-_CRC_BYTES:], "little")
    return bool(google_crc32c.value(data[:-_CRC_BYTES]) == expected)
