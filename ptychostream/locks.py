"""Lock folders against other processes, on any file system."""

import errno
import json
import logging
import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from importlib.util import find_spec
from pathlib import Path
from socket import gethostname

from ptychostream.errors import StoreExistsError
from ptychostream.files import is_alive

logger = logging.getLogger(__name__)

#: Where the owner of a lock is named, in the folder that is locked.
LOCK = ".lock"
#: Whether the system has locks on folders; Windows has none.
HAS_LOCKS = find_spec("fcntl") is not None
#: What file systems without locks answer: NFS without its lock service, Lustre mounted without.
_NO_LOCKS = {errno.ENOLCK, errno.ENOSYS, errno.EOPNOTSUPP}


@contextmanager
def locked(folder: Path, message: str) -> Iterator[None]:
    """Lock a folder against other processes; nothing in it is changed where the system has locks.

    Raises
    ------
    StoreExistsError
        With this message, if another process has locked it.
    """
    if not HAS_LOCKS:
        with owned(folder, message):
            yield
        return
    import fcntl

    handle = os.open(folder, os.O_RDONLY)
    try:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise StoreExistsError(message) from error
        except OSError as error:
            if error.errno not in _NO_LOCKS:
                raise
            logger.warning(
                "'%s' is on a file system without locks (%s): a file '%s' takes their place",
                folder,
                error.strerror,
                LOCK,
            )
            with owned(folder, message):
                yield
            return
        yield
    finally:
        os.close(handle)


@contextmanager
def owned(folder: Path, message: str) -> Iterator[None]:
    """Keep a file in a folder that names this process as the owner; it is removed in the end.

    What a process of this machine that is gone has left counts no more. One of another machine
    can't be asked, so that its file must be removed by hand.

    Raises
    ------
    StoreExistsError
        With this message and the owner's host and process, if there is another owner.
    """
    path = folder / LOCK
    own = json.dumps({"host": gethostname(), "pid": os.getpid()})
    for attempt in (1, 2):
        try:
            with path.open("x") as stream:
                stream.write(own)
            break
        except FileExistsError:
            owner = _owner(path)
            if attempt == 2 or not _is_gone(owner):
                raise StoreExistsError(
                    f"{message}: process {owner.get('pid')} on {owner.get('host')}; wait for it, "
                    f"or remove '{path}' if it is gone"
                ) from None
            path.unlink(missing_ok=True)
    try:
        yield
    finally:
        with suppress(OSError):
            path.unlink(missing_ok=True)


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
