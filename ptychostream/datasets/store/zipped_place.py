"""A store in a zip file: read in place, never written."""

import os
import zipfile
import zlib
from pathlib import Path, PurePosixPath
from typing import Any, NoReturn

from typing_extensions import override

from ptychostream.datasets.store.format import MANIFEST
from ptychostream.datasets.store.places import Place
from ptychostream.errors import DataContractError, StorageError

#: Bytes of the fixed part of a zip entry's local header, before its name and extra field.
_LOCAL_HEADER = 30


class ZippedPlace(Place):
    """A folder in a zip file.

    Parameters
    ----------
    folder : str, optional
        Where in it the store lies; None finds the outermost.

    Raises
    ------
    DataContractError
        If it holds no complete store, or several.
    """

    def __init__(self, file: Path, folder: str | None = None) -> None:
        self._file = file
        try:
            with zipfile.ZipFile(file) as archive:
                entries = {e.filename: e for e in archive.infolist() if not e.is_dir()}
        except (zipfile.BadZipFile, OSError) as error:
            raise DataContractError(f"'{file}' is no readable zip file: {error}") from error
        self._folder = _outermost(file, list(entries)) if folder is None else folder
        prefix = f"{self._folder}/" if self._folder else ""
        self._entries = {
            name.removeprefix(prefix): e for name, e in entries.items() if name.startswith(prefix)
        }

    def __str__(self) -> str:
        return str(self._file)

    def __getstate__(self) -> dict[str, Any]:
        return {"file": self._file, "folder": self._folder}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__init__(**state)  # type: ignore[misc]

    @override
    def child(self, name: str) -> "ZippedPlace":
        return ZippedPlace(self._file, f"{self._folder}/{name}".lstrip("/"))

    @override
    def read(self, name: str, start: int = 0, length: int | None = None) -> bytes:
        if name not in self._entries:
            raise FileNotFoundError(f"{self._file}/{name}")
        entry = self._entries[name]
        stop = entry.file_size if length is None else min(start + length, entry.file_size)
        try:
            if entry.compress_type == zipfile.ZIP_STORED:
                return self._read_stored(entry, start, stop)
            with zipfile.ZipFile(self._file) as archive:
                return archive.read(entry)[start:stop]
        except (zipfile.BadZipFile, zlib.error, OSError) as error:
            raise StorageError(
                f"'{name}' in '{self._file}' can't be read: {error}; copy the file again"
            ) from error

    def _read_stored(self, entry: zipfile.ZipInfo, start: int, stop: int) -> bytes:
        with self._file.open("rb") as stream:
            stream.seek(entry.header_offset)
            header = stream.read(_LOCAL_HEADER)
            names = sum(int.from_bytes(header[at : at + 2], "little") for at in (26, 28))
            stream.seek(names + start, os.SEEK_CUR)
            return stream.read(max(stop - start, 0))

    @override
    def write(self, name: str, data: bytes) -> NoReturn:
        self._refuse()

    @override
    def sizes(self, below: str = "") -> dict[str, int]:
        prefix = f"{below}/" if below else ""
        return {n: e.file_size for n, e in self._entries.items() if n.startswith(prefix)}

    @override
    def folders(self, below: str) -> list[str]:
        inside = (name[len(below) + 1 :] for name in self.sizes(below))
        return sorted({name.split("/")[0] for name in inside if "/" in name})

    @override
    def remove(self, name: str) -> NoReturn:
        self._refuse()

    @override
    def zarr_store(self) -> Any:
        from zarr.storage import FsspecStore

        return FsspecStore.from_url(f"zip://{self._folder}::{self._file}", read_only=True)

    def _refuse(self) -> NoReturn:
        raise StorageError(f"'{self._file}' is a zip file, which is only read; unpack it first")


def holds_store(file: Path) -> bool:
    """Say whether a zip file holds a complete store; other archives are zip files too."""
    if not zipfile.is_zipfile(file):
        return False
    with zipfile.ZipFile(file) as archive:
        return any(PurePosixPath(name).name == MANIFEST for name in archive.namelist())


def _outermost(file: Path, names: list[str]) -> str:
    folders = [PurePosixPath(n).parent for n in names if PurePosixPath(n).name == MANIFEST]
    depth = min((len(folder.parts) for folder in folders), default=0)
    found = [folder for folder in folders if len(folder.parts) == depth]
    if len(found) != 1:
        raise DataContractError(
            f"'{file}' holds {len(found)} complete group stores, expected one; zip one store's "
            "folder"
        )
    return "/".join(found[0].parts)
