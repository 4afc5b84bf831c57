"""Lock folders against other processes, on any file system."""

import errno
import functools
import json
import logging
import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from importlib.util import find_spec
from pathlib import Path
from socket import gethostname

from ptychostream.errors import PtychoStreamError, StorageError, StoreExistsError
from ptychostream.files import is_alive

logger = logging.getLogger(__name__)

#: Where the owner of a lock is named, in the folder that is locked.
LOCK = ".lock"
#: Whether the system has locks on folders; Windows has none.
HAS_LOCKS = find_spec("fcntl") is not None
#: What file systems without locks answer: NFS without its lock service, Lustre mounted without.
_NO_LOCKS = {errno.ENOLCK, errno.ENOSYS, errno.EOPNOTSUPP}


_NEW = os.O_RDWR | os.O_CREAT | os.O_EXCL


class _NoLocksError(Exception):
    """The system or the file system has no locks."""


@contextmanager
def locked(folder: Path, message: str) -> Iterator[None]:
    """Lock a folder against other processes; nothing in it is changed.

    Where there are no locks, a file beside it names the owner.
    """
    handle = _opened(folder)
    try:
        try:
            is_free = _lock(handle)
        except _NoLocksError as error:
            _say_fallback(str(error))
            with _owning(folder.with_name(f".{folder.name.lstrip('.')}.lock"), message):
                yield
            return
        if not is_free:
            raise StoreExistsError(message)
        yield
    finally:
        if handle is not None:
            os.close(handle)


@contextmanager
def owned(folder: Path, message: str) -> Iterator[None]:
    """Keep a file in a folder that names this process as the owner; it is removed in the end.

    Where the system has locks, the file is locked, too, and what a killed process has left counts
    no more. Elsewhere the owner is looked for, which only its own machine can do: what a process
    of another machine has left must be removed by hand.
    """
    with _owning(folder / LOCK, message):
        yield


def share(handle: int) -> None:
    """Let others see that an open folder is read, for as long as it is; where that is possible."""
    with suppress(ImportError, OSError):
        import fcntl

        fcntl.flock(handle, fcntl.LOCK_SH | fcntl.LOCK_NB)


@contextmanager
def _owning(path: Path, message: str) -> Iterator[None]:
    handle = _take(path, message)
    try:
        yield
    finally:
        with suppress(OSError):
            if os.name == "nt":
                os.close(handle)
            path.unlink(missing_ok=True)
        if os.name != "nt":
            os.close(handle)


def _take(path: Path, message: str) -> int:
    """Become the owner; returns the open file."""
    while True:
        try:
            handle, is_new = os.open(path, _NEW, 0o666), True
        except FileExistsError:
            try:
                handle, is_new = os.open(path, os.O_RDWR), False
            except FileNotFoundError:
                continue
        try:
            is_left = False
            try:
                is_free = _lock(handle)
            except _NoLocksError as error:
                _say_fallback(str(error))
                # Only one process can have made the file.
                is_free, is_left = is_new, not is_new and _is_gone(_owner(path))
            if not is_free and not is_left:
                raise _refusal(path, message)
            if is_free and _is_same(handle, path):
                os.ftruncate(handle, 0)
                os.write(handle, _own().encode())
                return handle
        except BaseException as error:  # an interrupt, too, leaves no lock
            os.close(handle)
            if is_new:
                path.unlink(missing_ok=True)
            if isinstance(error, OSError) and not isinstance(error, PtychoStreamError):
                raise StorageError(
                    f"could not write '{path}': {error.strerror}; free space, or choose a folder "
                    "that can be written to"
                ) from error
            raise
        # Removed by its owner just now, or left by one that is gone: the next try decides.
        os.close(handle)
        if is_left:
            path.unlink(missing_ok=True)


def _opened(folder: Path) -> int | None:
    """Open a folder; None on Windows, which opens none."""
    return None if os.name == "nt" else os.open(folder, os.O_RDONLY)


def _lock(handle: int | None) -> bool:
    """Lock an open file; returns whether nobody else has, _NoLocksError where there are none."""
    if not HAS_LOCKS:
        raise _NoLocksError("this system has none")
    import fcntl

    assert handle is not None
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    except OSError as error:
        if error.errno not in _NO_LOCKS:
            raise
        raise _NoLocksError(error.strerror or str(error)) from error
    return True


@functools.cache
def _say_fallback(reason: str) -> None:
    # Cached: said once.
    logger.warning("folders can't be locked here (%s): a file names who writes to them", reason)


def _refusal(path: Path, message: str) -> StoreExistsError:
    owner = _owner(path)
    by = f"process {owner.get('pid')} on {owner.get('host')}" if owner else "another process"
    return StoreExistsError(f"{message}: {by}; wait for it, or remove '{path}' if it is gone")


def _is_same(handle: int, path: Path) -> bool:
    try:
        return os.path.samestat(os.fstat(handle), path.stat())
    except FileNotFoundError:
        return False


def _own() -> str:
    return json.dumps({"host": gethostname(), "pid": os.getpid()})


def _owner(path: Path) -> dict[str, object]:
    try:
        owner = json.loads(path.read_text())
    except (OSError, ValueError):
        return {}
    return owner if isinstance(owner, dict) else {}


def _is_gone(owner: dict[str, object]) -> bool:
    pid = owner.get("pid")
    is_here = owner.get("host") == gethostname()
    return is_here and isinstance(pid, int) and not is_alive(pid)
