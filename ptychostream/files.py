"""Write files whole or not at all; read them with errors that name them."""

import ctypes
import os
import re
import secrets
import shutil
import sys
import zlib
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from socket import gethostname
from typing import Any

from ptychostream.errors import DataContractError, PtychoStreamError, StorageError

#: Bytes of the fixed part of a zip entry's local header, before its name and extra field.
_LOCAL_HEADER = 30

#: Names of files that are being written: host, process and writer follow the file's own name.
_PARTIAL = re.compile(r"\.(?P<name>.+)\.(?:(?P<host>[0-9a-f]{8})-)?(?P<pid>\d+)(-\w+)?\.partial")

#: Windows' numbers: a right to ask for a process, its answers.
_MAY_BE_ASKED, _ACCESS_DENIED, _STILL_ACTIVE = 0x1000, 5, 259

#: Arrays up to this size, in bytes, and so much larger than on disk, are read without question.
_LARGE, _EXPANSION = 2**28, 100


@contextmanager
def atomic_file(path: Path) -> Iterator[Path]:
    """Yield a temporary path; on success, fsync it and rename it to `path`."""
    partial = partial_name(path)
    try:
        yield partial
        with partial.open("r+b") as stream:
            os.fsync(stream.fileno())
        partial.replace(path)
    finally:
        _remove(partial)


@contextmanager
def whole_file(path: Path) -> Iterator[Path]:
    """Yield a temporary path that is renamed to `path` on success; errors say what to do.

    What writers of the same file that were killed have left is removed.
    """
    try:
        if path.is_dir():
            raise StorageError(f"could not write '{path}': it is a folder; choose another name")
        clear_left(path)
        with atomic_file(path) as partial:
            yield partial
    except OSError as error:
        if isinstance(error, PtychoStreamError):
            raise
        raise StorageError(
            f"could not write '{path}': {error.strerror or error}; free space, or choose a folder "
            "that can be written to"
        ) from error


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
    """Turn any error while a file is read into one that names the file."""
    try:
        yield
    except (PtychoStreamError, MemoryError) as error:
        if isinstance(error, DataContractError) and str(path) not in str(error):
            raise DataContractError(f"'{path}': {error}") from error
        raise
    except Exception as error:  # readers of damaged files raise errors of every kind
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


def check_expansion(label: str, declared: int, stored: int) -> None:
    """Refuse an array that fills far more memory than it takes on disk; DataContractError."""
    if declared > _LARGE and declared > _EXPANSION * stored:
        raise DataContractError(
            f"{label} declares {declared} bytes but holds {stored}; write it again, uncompressed "
            "if it is right"
        )


def partial_name(path: Path) -> Path:
    """Return a hidden name beside a file or folder, for what is not complete."""
    # Each writer has a name of its own, so that two threads may write the same file.
    writer = f"{_host()}-{os.getpid()}-{secrets.token_hex(4)}"
    return path.with_name(f".{path.name}.{writer}.partial")


def clear_left(path: Path) -> None:
    """Remove what processes of this machine that are gone have left of a file or folder."""
    for left in path.parent.glob(f".{_escaped(path.name)}.*.partial"):
        match = _PARTIAL.fullmatch(left.name)
        if match and match["name"] == path.name and _is_left(match):
            _remove(left)


def clear_folder(folder: Path) -> None:
    """Remove what processes of this machine that are gone have left of any file in a folder."""
    for left in folder.glob(".*.partial"):
        match = _PARTIAL.fullmatch(left.name)
        if match and _is_left(match):
            _remove(left)


def _is_left(match: re.Match[str]) -> bool:
    return match["host"] in (None, _host()) and not is_alive(int(match["pid"]))


def is_alive(pid: int) -> bool:
    """Return whether a process of this machine exists."""
    if sys.platform == "win32":
        return _is_alive_on_windows(pid)
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except (PermissionError, OverflowError):
        pass
    return True


def _is_alive_on_windows(pid: int) -> bool:
    """Ask Windows, where a signal would end the process that it is sent to."""
    kernel: Any = getattr(ctypes, "windll").kernel32  # noqa: B009
    handle = kernel.OpenProcess(_MAY_BE_ASKED, 0, pid)
    if not handle:
        return bool(kernel.GetLastError() == _ACCESS_DENIED)
    code = ctypes.c_ulong()
    kernel.GetExitCodeProcess(handle, ctypes.byref(code))
    kernel.CloseHandle(handle)
    return code.value == _STILL_ACTIVE


def _host() -> str:
    """Return a short name of this machine, which others that share a disk do not have."""
    return f"{zlib.crc32(gethostname().encode()):08x}"


def _escaped(name: str) -> str:
    return re.sub(r"([*?[])", r"[\1]", name)


def _remove(path: Path) -> None:
    # A folder that has become read-only, or has gone: the cause is raised already.
    with suppress(OSError):
        if path.is_dir():
            shutil.rmtree(path, ignore_errors=True)
        else:
            path.unlink(missing_ok=True)
