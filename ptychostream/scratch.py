"""Arrays in memory, or in scratch files that the system keeps in memory as far as they fit."""

import errno
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
            _reserve(file.fileno(), size, folder, purpose)
            return np.memmap(file, dtype=dtype, mode="r+", shape=shape)
    finally:
        # The file is unlinked at once; the mapping keeps it until the process ends, in any way.
        # Windows refuses that: the next command that writes here removes it.
        with suppress(PermissionError):
            Path(name).unlink()


def check_free_space(folder: Path, size: int, purpose: str) -> None:
    """Refuse to write more than the disk has room for."""
    if size > shutil.disk_usage(folder).free:
        raise _no_room(folder, size, purpose)


def _reserve(handle: int, size: int, folder: Path, purpose: str) -> None:
    # A write to a mapped file for which the disk has no room kills the process.
    if not hasattr(os, "posix_fallocate"):
        os.ftruncate(handle, size)
        return
    try:
        os.posix_fallocate(handle, 0, size)
    except OSError as error:
        if error.errno not in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG):
            raise
        raise _no_room(folder, size, purpose) from error


def _no_room(folder: Path, size: int, purpose: str) -> ConfigurationError:
    free = shutil.disk_usage(folder).free
    return ConfigurationError(
        f"{purpose} take {size / 1e9:.2g} GB but '{folder}' has {free / 1e9:.2g} GB free; "
        "choose another scratch_folder"
    )
