"""A store's patterns, decoded once into a file that is memory-mapped."""

import hashlib
import logging
import os
import shutil
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ptychostream.datasets.store.group_store import GroupStore
from ptychostream.errors import StorageError
from ptychostream.files import whole_file

logger = logging.getLogger(__name__)


def default_cache_folder() -> Path:
    """Return the folder of cached patterns, by the platform's convention."""
    base = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(base) / "ptychostream"


def cached_patterns(store: GroupStore, folder: Path | None = None) -> NDArray[Any]:
    """Map a store's decoded patterns into memory; they are decoded if they are not cached.

    The file is named by the store's content: another store, or the same one grown, has a file of
    its own. Files stay until a user deletes them, which loses nothing.

    Raises
    ------
    StorageError
        If the folder can't be written to, or has too little space.
    DataContractError
        If a chunk is damaged.
    """
    folder = folder or default_cache_folder()
    content = "".join(str(sorted(segment.files.items())) for segment in store.segments)
    file = folder / f"{hashlib.sha256(content.encode()).hexdigest()[:32]}.patterns"
    per_chunk = store.patterns_per_chunk
    shape = (store.num_chunks * per_chunk, store.N, store.N)
    size = int(np.prod(shape)) * store.dtype.itemsize
    try:
        if not file.is_file() or file.stat().st_size != size:
            folder.mkdir(parents=True, exist_ok=True)
            _decode_into(store, file, shape, size)
        return np.memmap(file, store.dtype, "r", shape=shape)
    except OSError as error:
        if isinstance(error, StorageError):
            raise
        raise StorageError(
            f"could not cache the patterns in '{folder}': {error}; name another folder, or stream "
            "without a cache"
        ) from error


def _decode_into(store: GroupStore, file: Path, shape: tuple[int, ...], size: int) -> None:
    free = shutil.disk_usage(file.parent).free
    if size > free:
        raise StorageError(
            f"'{file.parent}' has {free / 2**30:.1f} GiB free, but the decoded patterns take "
            f"{size / 2**30:.1f} GiB; name another folder, or stream without a cache"
        )
    logger.info("decoding %.1f GiB of patterns into '%s'", size / 2**30, file)
    per_chunk = store.patterns_per_chunk
    block = np.zeros((per_chunk, *shape[1:]), store.dtype)
    with whole_file(file) as partial, partial.open("wb") as stream:
        for chunk in range(store.num_chunks):
            store.chunks.read_chunk(chunk, block)
            stream.write(block.tobytes())
