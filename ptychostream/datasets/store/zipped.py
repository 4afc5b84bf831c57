"""A store in a zip file: read in place, never written."""

import zipfile
import zlib
from pathlib import Path, PurePosixPath
from typing import Any

from fsspec.implementations.zip import ZipFileSystem
from typing_extensions import override

from ptychostream.datasets.store.format import MANIFEST
from ptychostream.errors import DataContractError, StorageError
from ptychostream.files import zip_entry_offset


class ZippedFiles(ZipFileSystem):  # type: ignore[misc]
    """The files in a zip file; parts of uncompressed ones are read without what is before them.

    Raises
    ------
    DataContractError
        If it is no readable zip file.
    """

    # A file that was replaced under its name is another one.
    cachable = False

    def __init__(self, file: Path) -> None:
        self.file = file
        try:
            super().__init__(str(file))
        except (zipfile.BadZipFile, OSError) as error:
            raise DataContractError(f"'{file}' is no readable zip file: {error}") from error
        self.entries = {e.filename: e for e in self.zip.infolist() if not e.is_dir()}

    @override
    def cat_file(
        self, path: str, start: int | None = None, end: int | None = None, **options: Any
    ) -> bytes:
        if path not in self.entries:
            raise FileNotFoundError(f"{self.file}/{path}")
        entry = self.entries[path]
        first, stop = start or 0, entry.file_size if end is None else min(end, entry.file_size)
        try:
            if entry.compress_type != zipfile.ZIP_STORED:
                data: bytes = self.zip.read(entry)
                return data[first:stop]
            with self.file.open("rb") as stream:
                stream.seek(zip_entry_offset(self.file, entry.header_offset) + first)
                return stream.read(max(stop - first, 0))
        except (zipfile.BadZipFile, zlib.error, OSError) as error:
            raise StorageError(
                f"'{path}' in '{self.file}' can't be read: {error}; copy the file again"
            ) from error

    def store_folder(self) -> str:
        """Return the folder of the outermost complete store.

        Raises
        ------
        DataContractError
            If there is none, or there are several.
        """
        folders = [PurePosixPath(n).parent for n in self.entries if _is_manifest(n)]
        depth = min((len(folder.parts) for folder in folders), default=0)
        found = [folder for folder in folders if len(folder.parts) == depth]
        if len(found) != 1:
            raise DataContractError(
                f"'{self.file}' holds {len(found)} complete group stores, expected one; zip one "
                "store's folder"
            )
        return "/".join(found[0].parts)


def holds_store(file: Path) -> bool:
    """Return whether a zip file holds a complete store; other archives are zip files too."""
    if not zipfile.is_zipfile(file):
        return False
    with zipfile.ZipFile(file) as archive:
        return any(_is_manifest(name) for name in archive.namelist())


def _is_manifest(name: str) -> bool:
    return PurePosixPath(name).name == MANIFEST
