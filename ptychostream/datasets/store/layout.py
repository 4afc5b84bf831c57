"""The store's format: names, version, codecs and sizes. See docs/reference/store-format.md."""

import re
from typing import Any

import numpy as np

from ptychostream.errors import ConfigurationError

#: Major versions are refused when newer; minor ones add what older readers may ignore.
FORMAT_VERSION = (1, 0)
FORMAT_NAME = "ptychostream group store"

#: Key of the root group's attributes under which ours stand.
ATTRIBUTES = "ptychostream"
MANIFEST = "manifest.json"
GROUPINGS = "groupings"
DIFFRACTION = "diffraction"

#: Chunks of about this size decode fastest (streaming measurements in docs/decisions).
CHUNK_BYTES = 2 * 2**20
CHUNKS_PER_SHARD = 16

_UNITS = {"": 1, "k": 10**3, "m": 10**6, "g": 10**9, "t": 10**12}
_BINARY_UNITS = {"ki": 2**10, "mi": 2**20, "gi": 2**30, "ti": 2**40}


def default_patterns_per_chunk(patch_size: int, itemsize: int) -> int:
    """Choose how many patterns share a chunk.

    Parameters
    ----------
    patch_size : int
        Edge N.
    itemsize : int
        Bytes per pixel.

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


def pattern_codecs() -> list[Any]:
    """Return the codecs of pattern chunks: bitshuffle and zstd, then a CRC32C of the result."""
    from zarr.codecs import BloscCodec, Crc32cCodec

    return [BloscCodec(cname="zstd", clevel=3, shuffle="bitshuffle"), Crc32cCodec()]


def parse_bytes(amount: str | int) -> int:
    """Read an amount of memory.

    Parameters
    ----------
    amount : str or int
        Bytes, or a number with a unit: `"512 MiB"`, `"2GB"`.

    Returns
    -------
    int
        Bytes.

    Raises
    ------
    ConfigurationError
        If it is not a positive amount.

    Examples
    --------
    >>> parse_bytes("1 GiB")
    1073741824
    """
    if isinstance(amount, int):
        size = amount
    else:
        match = re.fullmatch(r"\s*([\d.]+)\s*([kmgt]?i?)b?\s*", amount.lower())
        units = _UNITS | _BINARY_UNITS
        try:
            size = int(float(match[1]) * units[match[2]]) if match else 0
        except (ValueError, KeyError):
            size = 0
    if size <= 0:
        raise ConfigurationError(f"{amount!r} is no amount of memory; write, say, '512 MiB'")
    return size
