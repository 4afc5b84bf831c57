"""Write a file that is there when it is complete, and not before."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from ptychostream.errors import PtychoStreamError, StorageError


@contextmanager
def whole_file(path: Path) -> Iterator[Path]:
    """Give a name to write to; what was written takes its real name, safely on disk, in the end.

    Parameters
    ----------
    path : Path
        The file to make, in the place of one that may be there.

    Raises
    ------
    StorageError
        If the file can't be written.
    """
    partial = path.with_name(f".{path.name}.{os.getpid()}.partial")
    try:
        if path.is_dir():
            raise StorageError(f"could not write '{path}': it is a folder; choose another name")
        yield partial
        with partial.open("rb") as stream:
            os.fsync(stream.fileno())
        partial.replace(path)
    except OSError as error:
        if isinstance(error, PtychoStreamError):
            raise
        raise StorageError(
            f"could not write '{path}': {error.strerror or error}; free space, or choose a folder "
            "that can be written to"
        ) from error
    finally:
        partial.unlink(missing_ok=True)
