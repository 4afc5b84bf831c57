"""Arrays in memory, or in scratch files that the system keeps in memory as far as they fit."""

import os
import shutil
import tempfile
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ptychostream.errors import ConfigurationError


def allocate(
    shape: tuple[int, ...],
    dtype: Any,
    folder: Path | None = None,
    *,
    purpose: str = "the object's sums",
) -> NDArray[Any]:
    """Make an array of zeros, in memory or in a scratch file that is deleted with it."""
    if folder is None:
        return np.zeros(shape, dtype)
    size = int(np.prod(shape)) * np.dtype(dtype).itemsize
    check_free_space(folder, size, purpose)
    handle, name = tempfile.mkstemp(prefix=".ptychostream-scratch-", dir=folder)
    try:
        with os.fdopen(handle, "r+b") as file:
            file.truncate(size)
            return np.memmap(file, dtype=dtype, mode="r+", shape=shape)
    finally:
        # The file is unlinked at once; the mapping keeps it until the process ends, in any way.
        # Windows refuses that: the next command that writes here removes it.
        with suppress(PermissionError):
            Path(name).unlink()


def check_free_space(folder: Path, size: int, purpose: str) -> None:
    """Refuse to write more than the disk has room for."""
    free = shutil.disk_usage(folder).free
    if size > free:
        raise ConfigurationError(
            f"{purpose} take {size / 1e9:.2g} GB but '{folder}' has {free / 1e9:.2g} GB free; "
            "choose another scratch_folder"
        )
