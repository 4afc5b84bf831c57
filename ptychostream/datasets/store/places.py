"""Where a store's files lie: what any place can do, and folders of this machine."""

import hashlib
import os
import shutil
import tempfile
import weakref
from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from typing_extensions import override

#: Remote files are hashed in parts of this many bytes.
_PART = 16 * 2**20


class Place(ABC):
    """A folder of files, each of which is written whole or not at all."""

    @abstractmethod
    def __str__(self) -> str:
        """Name the place in messages."""

    @abstractmethod
    def child(self, name: str) -> "Place":
        """Return the place of a folder in this one."""

    @abstractmethod
    def read(self, name: str, start: int = 0, length: int | None = None) -> bytes:
        """Read a file or a part of it.

        Parameters
        ----------
        length : int, optional
            Bytes; fewer come back where the file ends. None is all that follow.

        Raises
        ------
        FileNotFoundError
            If there is no such file.
        StorageError
            If the place can't be read.
        """

    @abstractmethod
    def write(self, name: str, data: bytes) -> None:
        """Write a file, which appears when it is complete and safely stored."""

    @abstractmethod
    def sizes(self, below: str = "") -> dict[str, int]:
        """Measure all files."""

    @abstractmethod
    def folders(self, below: str) -> list[str]:
        """List the folders in a folder."""

    @abstractmethod
    def remove(self, name: str) -> None:
        """Delete a file, or a folder with all that is in it; what is absent is no error."""

    @abstractmethod
    def zarr_store(self) -> Any:
        """Return the place as zarr takes it, for reading."""

    def digest(self, name: str) -> str:
        """Hash a file."""
        digest, at = hashlib.sha256(), 0
        while part := self.read(name, at, _PART):
            digest.update(part)
            at += len(part)
        return digest.hexdigest()

    def has(self, name: str) -> bool:
        """Say whether a file exists."""
        try:
            self.read(name, 0, 1)
        except (FileNotFoundError, NotADirectoryError):
            return False
        return True


class LocalPlace(Place):
    """A folder of this machine."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._handle: int | None = None
        self._parent: LocalPlace | None = None

    def __str__(self) -> str:
        return str(self.folder)

    def __getstate__(self) -> dict[str, Any]:
        return {"folder": self.folder, "_handle": None, "_parent": None}

    def hold(self) -> None:
        """Read from this very folder from now on, also after another takes its name.

        Where the place that it is a child of is held, nothing more need be.
        """
        if self._held()[0] is None:
            self._handle = os.open(self.folder, os.O_RDONLY | os.O_DIRECTORY)
            weakref.finalize(self, os.close, self._handle)

    def _held(self) -> tuple[int | None, Path]:
        """Find the held folder that this one lies in, and its path from there."""
        place, below = self, Path()
        while place._handle is None and (parent := place._parent) is not None:
            place, below = parent, place.folder.relative_to(parent.folder) / below
        return place._handle, below

    @override
    def child(self, name: str) -> "LocalPlace":
        child = LocalPlace(self.folder / name)
        child._parent = self
        return child

    @override
    def read(self, name: str, start: int = 0, length: int | None = None) -> bytes:
        held, below = self._held()
        path = self.folder / name if held is None else below / name
        handle = os.open(path, os.O_RDONLY, dir_fd=held)
        try:
            size = os.fstat(handle).st_size - start
            wanted = size if length is None else min(size, length)
            parts, at = [], start
            # The system reads at most two GiB at once.
            while wanted > 0 and (part := os.pread(handle, min(wanted, 2**30), at)):
                parts.append(part)
                at, wanted = at + len(part), wanted - len(part)
        finally:
            os.close(handle)
        return parts[0] if len(parts) == 1 else b"".join(parts)

    @override
    def write(self, name: str, data: bytes) -> None:
        path = self.folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        handle, scratch = tempfile.mkstemp(prefix=".", suffix=".partial", dir=path.parent)
        try:
            with os.fdopen(handle, "wb") as stream:
                stream.write(data)
                stream.flush()
                os.fchmod(stream.fileno(), 0o666 & ~_UMASK)
                os.fsync(stream.fileno())
            Path(scratch).replace(path)
        except BaseException:
            Path(scratch).unlink(missing_ok=True)
            raise

    @override
    def sizes(self, below: str = "") -> dict[str, int]:
        found = {}
        # Walking, unlike `rglob`, passes over folders that are renamed meanwhile.
        for folder, _, names in os.walk(self.folder / below):
            for path in (Path(folder) / name for name in names):
                try:
                    if path.is_file():
                        found[path.relative_to(self.folder).as_posix()] = path.stat().st_size
                except FileNotFoundError:  # somebody's scratch file, gone by now
                    continue
        return found

    @override
    def folders(self, below: str) -> list[str]:
        folder = self.folder / below
        if not folder.is_dir():
            return []
        return sorted(entry.name for entry in folder.iterdir() if entry.is_dir())

    @override
    def remove(self, name: str) -> None:
        path = self.folder / name
        if path.is_dir() and not path.is_symlink():
            shutil.rmtree(path, ignore_errors=True)
        else:
            path.unlink(missing_ok=True)

    @override
    def zarr_store(self) -> Any:
        return str(self.folder)


def copy_files(files: Iterable[tuple[str, bytes]], place: Place) -> Iterator[tuple[str, int, str]]:
    """Write files and measure them.

    Parameters
    ----------
    files : iterable of (str, bytes)
        Names and contents.

    Yields
    ------
    (str, int, str)
        Name, size and SHA-256 of each.
    """
    for name, data in files:
        place.write(name, data)
        yield name, len(data), hashlib.sha256(data).hexdigest()


def _read_umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask


_UMASK = _read_umask()
