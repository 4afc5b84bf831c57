"""Small arrays and attributes as the files of a zarr group, made in memory."""

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ptychostream.datasets.store.layout import ATTRIBUTES, DIFFRACTION, pattern_codecs


def encoded_tables(
    tables: Mapping[str, NDArray[Any]], attributes: Mapping[str, Any] | None = None
) -> dict[str, bytes]:
    """Encode arrays as the files of a zarr group.

    Parameters
    ----------
    tables : mapping of str to array
        The arrays; a name may hold folders.
    attributes : mapping, optional
        The group's own record: JSON values.

    Returns
    -------
    dict of str to bytes
        Content of each file, by name.
    """
    import zarr

    files: dict[str, Any] = {}
    root = zarr.create_group(zarr.storage.MemoryStore(files))
    for name, values in tables.items():
        root.create_array(name, data=np.ascontiguousarray(values))
    if attributes is not None:
        root.attrs[ATTRIBUTES] = dict(attributes)
    return _contents(files)


def encoded_pattern_metadata(
    shape: tuple[int, int, int],
    dtype: np.dtype[Any],
    *,
    patterns_per_chunk: int,
    patterns_per_shard: int,
) -> dict[str, bytes]:
    """Encode what zarr has to know about the array of patterns.

    Parameters
    ----------
    shape : (int, int, int)
        M, N, N.
    dtype : numpy.dtype
        Of the patterns.
    patterns_per_chunk : int
        Patterns that are compressed together.
    patterns_per_shard : int
        Patterns in one file.

    Returns
    -------
    dict of str to bytes
        Content of the one file, by name.
    """
    import zarr

    files: dict[str, Any] = {}
    zarr.create_array(
        zarr.storage.MemoryStore(files),
        name=DIFFRACTION,
        shape=shape,
        dtype=dtype,
        chunks=(patterns_per_chunk, *shape[1:]),
        shards=(patterns_per_shard, *shape[1:]),
        dimension_names=("pattern", "row", "column"),
        **pattern_codecs(),
    )
    name = f"{DIFFRACTION}/zarr.json"
    return {name: _contents(files)[name]}


def _contents(files: Mapping[str, Any]) -> dict[str, bytes]:
    return {name: bytes(files[name].to_bytes()) for name in sorted(files)}
