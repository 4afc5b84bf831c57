"""Small arrays and attributes as the files of a zarr group: made in memory, and read back.

Zarr's own reader goes through threads, whose heaps keep what they took: for the tables of a large
scan, several times their size.
"""

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np
from numcodecs import zstd
from numpy.typing import NDArray

from ptychostream.datasets.large_tables import new_table
from ptychostream.datasets.store.format import ATTRIBUTES, DIFFRACTION, pattern_codecs


def encoded_tables(
    tables: Mapping[str, NDArray[Any]], attributes: Mapping[str, Any] | None = None
) -> Iterator[tuple[str, bytes]]:
    """Encode arrays as the files of a zarr group, one file at a time."""
    import zarr

    files: dict[str, Any] = {}
    root = zarr.create_group(zarr.storage.MemoryStore(files))
    for name, values in tables.items():
        codec = zarr.codecs.ZstdCodec(level=0)
        root.create_array(name, shape=values.shape, dtype=values.dtype, compressors=codec)
    if attributes is not None:
        root.attrs[ATTRIBUTES] = dict(attributes)
    metadata = _contents(files)
    yield from metadata.items()
    for name, values in tables.items():
        yield from _encoded_chunks(name, values, json.loads(metadata[f"{name}/zarr.json"]))


def _encoded_chunks(
    name: str, values: NDArray[Any], record: dict[str, Any]
) -> Iterator[tuple[str, bytes]]:
    """Encode the chunks of a table, as zarr does: full ones, and none that is zero."""
    chunk = record["chunk_grid"]["configuration"]["chunk_shape"]
    for index, place in _chunk_places(record["shape"], chunk):
        here = values[place]
        if here.any():
            full = np.zeros(chunk, values.dtype.newbyteorder("<"))
            full[tuple(slice(length) for length in here.shape)] = here
            yield "/".join([name, "c", *map(str, index)]), zstd.compress(full, 0)


def _chunk_places(
    shape: Sequence[int], chunk: Sequence[int]
) -> Iterator[tuple[tuple[int, ...], tuple[slice, ...]]]:
    """Iterate over the chunks of an array: their numbers, and what they hold."""
    numbers = (-(-length // step) for length, step in zip(shape, chunk, strict=True))
    for index in np.ndindex(*numbers):
        yield (
            index,
            tuple(slice(at * step, (at + 1) * step) for at, step in zip(index, chunk, strict=True)),
        )


def decoded_table(
    name: str,
    read: Callable[[str], bytes],
    check: Callable[[str, tuple[int, ...], np.dtype[Any]], object] | None = None,
) -> NDArray[Any]:
    """Decode an array that `encoded_tables` encoded.

    Parameters
    ----------
    check : callable, optional
        Called with the name, and the shape and type that are declared, before memory is taken.

    Returns
    -------
    array
        Its values. What the files leave out is zero: that there is no more of them than there
        was is for the caller to check.

    Raises
    ------
    ValueError
        If the array is encoded in another way.
    """
    record = json.loads(read(f"{name}/zarr.json"))
    codecs = [codec["name"] for codec in record["codecs"]]
    if codecs != ["bytes", "zstd"] or np.any(record["fill_value"]):
        raise ValueError(f"table '{name}' has codecs {codecs}, not bytes and zstd")
    shape, chunk = record["shape"], record["chunk_grid"]["configuration"]["chunk_shape"]
    if any(type(n) is not int or n < 0 for n in shape) or any(
        type(step) is not int or not 0 < step <= max(length, 1)
        for length, step in zip(shape, chunk, strict=True)
    ):
        raise ValueError(f"table '{name}' is declared as {shape} in chunks of {chunk}")
    dtype = np.dtype(record["data_type"]).newbyteorder("<")
    if check is not None:
        check(name, tuple(shape), dtype)
    table = new_table(tuple(shape), dtype)
    for index, place in _chunk_places(shape, chunk):
        try:
            encoded = read("/".join([name, "c", *map(str, index)]))
        except FileNotFoundError:
            continue
        if chunk == shape:
            zstd.decompress(encoded, table)
            break
        values = np.empty(chunk, table.dtype)
        # Into memory of that size: what the bytes themselves declare is not asked.
        zstd.decompress(encoded, values)
        here = table[place]
        here[...] = values[tuple(slice(length) for length in here.shape)]
    return table


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
