"""How the array of patterns lies in its files, read from zarr's metadata without zarr."""

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ptychostream.datasets.store.format import DIFFRACTION
from ptychostream.datasets.store.storage import StoreFiles


@dataclass(frozen=True, eq=False)
class PatternArray:
    """The array of patterns of a segment.

    Attributes
    ----------
    metadata : dict
        The array's `zarr.json`.
    """

    storage: StoreFiles
    metadata: dict[str, Any]

    @property
    def shape(self) -> tuple[int, ...]:
        """M, N, N."""
        return tuple(self.metadata["shape"])

    @property
    def dtype(self) -> np.dtype[Any]:
        """Data type of the patterns."""
        return np.dtype(self.metadata["data_type"])

    @property
    def shards(self) -> tuple[int, ...]:
        """Patterns in a file, N, N."""
        return tuple(self.metadata["chunk_grid"]["configuration"]["chunk_shape"])

    @property
    def chunks(self) -> tuple[int, ...]:
        """Patterns that are compressed together, N, N."""
        for codec in self.metadata["codecs"]:
            if codec["name"] == "sharding_indexed":
                return tuple(codec["configuration"]["chunk_shape"])
        return self.shards

    def is_transposed(self) -> bool | None:
        """Return whether the pattern axis is the last one within chunks.

        Returns
        -------
        bool or None
            None for a layout that `build` has never written: zarr has to read it.
        """
        codecs = self.metadata["codecs"]
        if [codec["name"] for codec in codecs] != ["sharding_indexed"]:
            return None
        sharding = codecs[0]["configuration"]
        inner = list(sharding["codecs"])
        transposed = inner[0]["name"] == "transpose"
        if transposed and tuple(inner.pop(0)["configuration"]["order"]) != (1, 2, 0):
            return None
        index = [codec["name"] for codec in sharding["index_codecs"]]
        plain = [codec["name"] for codec in inner] == ["bytes", "blosc", "crc32c"]
        little = inner[0].get("configuration", {}).get("endian", "little") == "little"
        at_end = sharding.get("index_location", "end") == "end"
        if plain and little and at_end and index == ["bytes", "crc32c"]:
            return transposed
        return None

    def read_by_zarr(self, start: int, stop: int) -> NDArray[Any]:
        """Read patterns (stop - start, N, N) by zarr's own reader."""
        import zarr

        array: Any = zarr.open_array(self.storage.zarr_store(), path=DIFFRACTION, mode="r")
        return np.asarray(array[start:stop])
