"""Write files whole or not at all, read them with errors that name them, lock folders."""

import fcntl
import os
import secrets
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from ptychostream.errors import (
    DataContractError,
    PtychoStreamError,
    StorageError,
    StoreExistsError,
)

#: Bytes of the fixed part of a zip entry's local header, before its name and extra field.
_LOCAL_HEADER = 30


@contextmanager
def atomic_file(path: Path) -> Iterator[Path]:
    """Yield a temporary path; on success, fsync it and rename it to `path`."""
    # Each writer has a name of its own, so that two threads may write the same file.
    partial = path.with_name(f".{path.name}.{os.getpid()}-{secrets.token_hex(4)}.partial")
    try:
        yield partial
        with partial.open("rb") as stream:
            os.fsync(stream.fileno())
        partial.replace(path)
    finally:
        partial.unlink(missing_ok=True)


@contextmanager
def whole_file(path: Path) -> Iterator[Path]:
    """Yield a temporary path that is renamed to `path` on success; errors say what to do.

    Raises
    ------
    StorageError
        If the file can't be written.
    """
    try:
        if path.is_dir():
            raise StorageError(f"could not write '{path}': it is a folder; choose another name")
        with atomic_file(path) as partial:
            yield partial
    except OSError as error:
        if isinstance(error, PtychoStreamError):
            raise
        raise StorageError(
            f"could not write '{path}': {error.strerror or error}; free space, or choose a folder "
            "that can be written to"
        ) from error


@contextmanager
def locked(folder: Path, message: str) -> Iterator[None]:
    """Lock a folder against other processes.

    Raises
    ------
    StoreExistsError
        With this message, if another process has locked it.
    """
    handle = os.open(folder, os.O_RDONLY)
    try:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise StoreExistsError(message) from error
        yield
    finally:
        os.close(handle)


def zip_entry_offset(file: Path, header_offset: int) -> int:
    """Return where the bytes of a zip file's entry begin, whose local header begins there."""
    with file.open("rb") as stream:
        stream.seek(header_offset)
        header = stream.read(_LOCAL_HEADER)
    # The central directory need not have the same extra field, so that this one is read.
    names = sum(int.from_bytes(header[at : at + 2], "little") for at in (26, 28))
    return header_offset + _LOCAL_HEADER + names


@contextmanager
def reading(path: Path) -> Iterator[None]:
    """Turn any error while a file is read into one that names the file.

    Raises
    ------
    DataContractError
        If the file is damaged: libraries fail on such files in many ways.
    """
    try:
        yield
    except (PtychoStreamError, MemoryError) as error:
        if isinstance(error, DataContractError) and str(path) not in str(error):
            raise DataContractError(f"'{path}': {error}") from error
        raise
    except Exception as error:
        cause: Exception | None = error
        text = "".join(str(error).splitlines()[:1])
        reason = f"{type(error).__name__}: {text}"
        if "allow_pickle" in text:
            # NumPy treats unknown content as a pickle and advises to allow it, which would execute
            # code from the file.
            reason, cause = "it holds no array of plain numbers", None
        raise DataContractError(
            f"'{path}' can't be read ({reason}); copy or convert it again"
        ) from cause
