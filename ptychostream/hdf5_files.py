"""HDF5 files: written whole, with checksums, also on a full disk; read with no trust in them."""

import io
import os
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from functools import lru_cache
from pathlib import Path
from typing import Any

import h5py
import numpy as np
from typing_extensions import override

from ptychostream.errors import DataContractError
from ptychostream.files import check_expansion, whole_file

#: The end of a file of ours: the bytes before it, and their CRC-32. The first so many bytes tell
#: that it is there.
_SEAL, _MAGIC = b"ptychostream seal %020d %08x\n", 17
_PART = 2**22

#: Set this variable to follow links out of a file's folder.
FOLLOW_LINKS = "PTYCHOSTREAM_FOLLOW_LINKS"


@contextmanager
def whole_hdf5(path: Path) -> Iterator[h5py.File]:
    """Yield an HDF5 file to write to; it appears as `path` when it is complete.

    Arrays of numbers in its root get a checksum, which HDF5 compares when they are read.
    """
    with whole_file(path) as partial, _NeverFails(partial) as stream:
        try:
            # HDF5 1.10 and newer: from then on descriptions have checksums, too.
            with _Checksummed(stream, "w", libver=("v110", "v110")) as file:
                yield file
        finally:
            # Also where HDF5 has raised an error of its own meanwhile: this is the cause.
            if stream.error is not None:
                raise stream.error
        _seal(partial)


def open_hdf5(path: Path) -> h5py.File:
    """Open a file to read from it.

    Its datasets refuse to take data out of other folders, and to fill far more memory than the
    file has bytes: DataContractError. So does a file that has changed since we wrote it.
    """
    check_seal(path)
    return _Untrusted(path, "r")


def _seal(path: Path) -> None:
    """Append a checksum of the whole file, which HDF5 does not see."""
    size, checksum = path.stat().st_size, _checksum_of(path)
    with path.open("ab") as stream:
        stream.write(_SEAL % (size, checksum))


def check_seal(path: Path) -> None:
    """Compare a file that we wrote with its checksum, before HDF5 sees it: damage may crash it.

    Programs that write to the file remove the seal. A file is compared once, unless it changes.
    """
    if not path.is_file():
        return
    state = path.stat()
    length = len(_SEAL % (0, 0))
    with path.open("rb") as stream:
        stream.seek(max(state.st_size - length, 0))
        seal = stream.read()
    size = state.st_size - length
    if not seal.startswith(_SEAL[:_MAGIC]):
        return
    if seal != _SEAL % (max(size, 0), _known_checksum(path, size, state.st_mtime_ns)):
        raise DataContractError(
            f"'{path}' can't be read: it is not what was written, by its checksum; copy it again"
        )


@lru_cache
def _known_checksum(path: Path, size: int, changed: int) -> int:
    # Cached by size and time of the last change, too.
    return _checksum_of(path, size)


def _checksum_of(path: Path, size: int | None = None) -> int:
    checksum, left = 0, path.stat().st_size if size is None else size
    with path.open("rb") as stream:
        while left > 0 and (part := stream.read(min(left, _PART))):
            checksum, left = zlib.crc32(part, checksum), left - len(part)
    return checksum


class _Untrusted(h5py.File):  # type: ignore[misc]
    @override
    def __getitem__(self, name: Any) -> Any:
        path = Path(os.fsdecode(self.filename))
        if name == "/":
            return super().__getitem__(name)
        link = super().get(name, getlink=True)
        if isinstance(link, h5py.ExternalLink):
            _check_place(path, name, path.parent / link.filename)
        item = super().__getitem__(name)
        if not isinstance(item, h5py.Dataset):
            return item
        _check_place(path, name, Path(os.fsdecode(item.file.filename)))
        external = item.id.get_create_plist().get_external_count()
        if external and FOLLOW_LINKS not in os.environ:
            raise DataContractError(
                f"'{path}': '{name}' is kept in {external} raw files of its own; copy it into the "
                f"file, or set {FOLLOW_LINKS}=1 if you trust it"
            )
        stored = item.id.get_storage_size()
        for source in item.virtual_sources() if item.is_virtual else ():
            other = path if source.file_name == "." else path.parent / source.file_name
            _check_place(path, name, other)
            stored += other.stat().st_size if other.is_file() else 0
        return _UntrustedDataset(item.id, f"'{path}': '{name}'", stored)


class _UntrustedDataset(h5py.Dataset):  # type: ignore[misc]
    def __init__(self, identifier: Any, label: str, stored: int) -> None:
        super().__init__(identifier)
        self._label, self._stored = label, stored

    @override
    def __getitem__(self, selection: Any, new_dtype: Any = None) -> Any:
        is_whole = isinstance(selection, tuple | slice) and selection in ((), slice(None))
        if is_whole or selection is Ellipsis:
            check_expansion(self._label, self.nbytes, self._stored)
        return super().__getitem__(selection, new_dtype)

    @override
    def __array__(self, dtype: Any = None, copy: bool = True) -> Any:
        return np.asarray(self[()], dtype)


def _check_place(path: Path, name: str, other: Path) -> None:
    """Check that data come from the file's own folder, or from one within."""
    folders = {path.absolute().parent.resolve(), path.resolve().parent}
    inside = any(other.resolve().is_relative_to(folder) for folder in folders)
    if not inside and FOLLOW_LINKS not in os.environ:
        raise DataContractError(
            f"'{path}': '{name}' takes its data from '{other}', outside the file's folder; copy "
            f"that file there, or set {FOLLOW_LINKS}=1 if you trust it"
        )


class _Checksummed(h5py.File):  # type: ignore[misc]
    @override
    def create_dataset(
        self, name: Any, shape: Any = None, dtype: Any = None, data: Any = None, **options: Any
    ) -> Any:
        values = np.empty(0, dtype) if data is None else np.asarray(data)
        size = values.shape if shape is None else tuple(shape)
        if size and 0 not in size and values.dtype.kind in "biufc":
            options.setdefault("fletcher32", True)
        return super().create_dataset(name, shape, dtype, data, **options)


class _NeverFails(io.FileIO):
    """A file that notes an error of the disk instead of raising it.

    HDF5 crashes when it closes a file after such an error, so it must never see one.
    """

    def __init__(self, path: Path) -> None:
        super().__init__(path, "w+")
        self.error: OSError | None = None

    @override
    def write(self, data: Any) -> int:
        rest = memoryview(data).cast("B")
        size = len(rest)
        while rest and self.error is None:
            try:
                rest = rest[super().write(rest) :]
            except OSError as error:
                self.error = error
        return size

    @override
    def truncate(self, size: int | None = None) -> int:
        if self.error is None:
            try:
                return super().truncate(size)
            except OSError as error:
                self.error = error
        return size or 0
