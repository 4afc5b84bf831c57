"""Write files that appear when they are complete; read files with errors that name them."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from ptychostream.errors import DataContractError, PtychoStreamError, StorageError


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
            # NumPy takes what it does not know for a pickle, and advises to load that, which
            # would run whatever program the file holds.
            reason, cause = "it holds no array of plain numbers", None
        raise DataContractError(
            f"'{path}' can't be read ({reason}); copy or convert it again"
        ) from cause
