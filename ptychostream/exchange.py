"""Let a folder take the place of another one, with no moment in which neither is there."""

import ctypes
import errno
import os
import shutil
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from ptychostream.errors import PtychoStreamError, StorageError
from ptychostream.files import clear_left, partial_name

#: Numbers of Linux and macOS: paths from the current folder, and the wish to exchange.
_AT_FDCWD, _EXCHANGE = -100, 2

#: What a system or file system answers that can't.
_UNABLE = {errno.ENOSYS, errno.EINVAL, errno.ENOTSUP, errno.EOPNOTSUPP, errno.EPERM}


def exchange(first: Path, second: Path) -> bool:
    """Let two folders take each other's names at once; returns False where the system can't."""
    if os.name != "posix":
        return False
    library: Any = ctypes.CDLL(None, use_errno=True)
    names = os.fsencode(first), os.fsencode(second)
    if sys.platform == "darwin":
        call, arguments = "renamex_np", (*names, _EXCHANGE)
    else:
        call, arguments = "renameat2", (_AT_FDCWD, names[0], _AT_FDCWD, names[1], _EXCHANGE)
    if not hasattr(library, call):
        return False
    if getattr(library, call)(*arguments) == 0:
        return True
    number = ctypes.get_errno()
    if number in _UNABLE:
        return False
    raise OSError(number, os.strerror(number), str(first), None, str(second))


def replace_folder(new: Path, target: Path, old: Path) -> None:
    """Rename a folder to `target`; what was there becomes `old`.

    Where the system can't exchange names, the target is missing between two renamings.
    """
    if not target.exists():
        new.replace(target)
        return
    # Under the old one's later name first: nobody else looks for it there meanwhile.
    new.replace(old)
    if exchange(old, target):
        return
    kept = old.with_name(f"{old.name}-kept")
    target.replace(kept)
    old.replace(target)
    kept.replace(old)


@contextmanager
def whole_folder(target: Path, names: Sequence[str]) -> Iterator[Path]:
    """Yield a folder to write files with these names into; they appear in `target` together.

    Where the target holds other files, too, these stay, and the new ones appear one by one: the
    last of the names is missing until all are there.
    """
    clear_left(target)
    staged, old = partial_name(target), partial_name(target)
    try:
        staged.mkdir(parents=True)
        yield staged
        if not target.exists() or {path.name for path in target.iterdir()} <= set(names):
            replace_folder(staged, target, old)
            flush_folder(target.parent)
            shutil.rmtree(old, ignore_errors=True)
            return
        (target / names[-1]).unlink(missing_ok=True)
        for name in names:
            (staged / name).replace(target / name)
    except OSError as error:
        if isinstance(error, PtychoStreamError):
            raise
        raise StorageError(
            f"could not write '{target}': {error.strerror or error}; free space, or choose a "
            "folder that can be written to"
        ) from error
    finally:
        # Once more: an interrupt may have come meanwhile.
        for left in (staged, old):
            shutil.rmtree(left, ignore_errors=True)


def flush_folder(folder: Path) -> None:
    """Make the disk keep the names in a folder; Windows does it by itself."""
    if os.name == "nt":
        return
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
