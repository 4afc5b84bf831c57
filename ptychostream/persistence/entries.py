"""Read members of a zip file from anywhere: everything is checked before it is read.

Nothing is ever extracted to disk, and no more memory is taken than the limits say.
"""

import io
import re
import stat
import struct
import unicodedata
import zipfile
import zlib
from pathlib import Path
from typing import IO, NamedTuple, NoReturn

from ptychostream.errors import DataContractError


class Limits(NamedTuple):
    """What only a damaged or hostile file exceeds.

    `ratio` is unpacked over packed bytes of a member; `folds` refuses names that a file system or
    a reader may take for one name.
    """

    members: int = 64
    total: int = 4 * 2**30
    ratio: int = 50
    folds: bool = True


#: Limits for a zipped folder, whose other files are never read.
FOLDER = Limits(members=4096, total=2**50, ratio=2**20, folds=False)

#: Upper limit for a directory entry with a path of usual length, in bytes.
_ENTRY_BYTES = 1024
#: Fields of the record at a zip file's end, as zipfile reads it: members and bytes listed.
_COUNT, _SIZE = 4, 5
_PACKINGS = (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED)
_ENCRYPTED = 1
_PIECE = 2**20
#: Errors of zipfile for damaged directories and entries.
_UNREADABLE = (zipfile.BadZipFile, ValueError, RuntimeError, OSError, struct.error)
_DAMAGED = (*_UNREADABLE, KeyError, EOFError, zlib.error)


class Members:
    """The members of a zip file, checked; a context manager."""

    def __init__(self, source: Path | bytes, origin: str, limits: Limits | None = None) -> None:
        self.origin, self._limits = origin, limits or Limits()
        stream = io.BytesIO(source) if isinstance(source, bytes) else source.open("rb")
        try:
            _check_directory(stream, origin, self._limits)
            self._archive = zipfile.ZipFile(stream)
            self._stream = stream
            _check_entries(self._archive.infolist(), origin, self._limits)
        except (
            zipfile.BadZipFile,
            ValueError,
            NotImplementedError,
            struct.error,
            OSError,
        ) as error:
            stream.close()
            if isinstance(error, DataContractError):
                raise
            raise DataContractError(f"{origin} is not a readable archive: {error}") from error
        self.sizes = {entry.filename: entry.file_size for entry in self._archive.infolist()}
        self.comment = self._archive.comment

    def __enter__(self) -> "Members":
        return self

    def __exit__(self, *error: object) -> None:
        self._archive.close()
        self._stream.close()

    def read(self, name: str, *, at_most: int | None = None) -> bytes:
        """Read a member.

        `at_most`: bytes that it may have; None is the limit for all.
        """
        size = self.sizes.get(name, 0)
        most = self._limits.total if at_most is None else at_most
        if size > most:
            self.refuse(name, f"has {size} bytes, over {most}")
        data = self.head(name, size + 1)
        if len(data) != size:
            self.refuse(name, f"has another size than the {size} bytes it says")
        return data

    def head(self, name: str, count: int) -> bytes:
        """Read the beginning of a member."""
        try:
            with self._archive.open(name) as member:
                return member.read(count)
        except _DAMAGED as error:
            self.refuse(name, f"can't be read: {error}", error)

    def check(self) -> None:
        """Compare the checksum of every member, in little memory."""
        for name in self.sizes:
            try:
                with self._archive.open(name) as member:
                    while member.read(_PIECE):
                        pass
            except _DAMAGED as error:
                self.refuse(name, f"is damaged: {error}", error)

    def refuse(self, name: str, why: str, cause: Exception | None = None) -> NoReturn:
        """Raise an error for an entry."""
        raise DataContractError(f"{self.origin}: member '{name}' {why}") from cause


def _check_directory(stream: IO[bytes], origin: str, limits: Limits) -> None:
    """Check the directory's size, before zipfile reads it into memory entry by entry."""
    record = zipfile._EndRecData(stream)  # type: ignore[attr-defined]
    if record is None:
        raise zipfile.BadZipFile("it is no zip file, or its end is missing")
    if record[_COUNT] > limits.members or record[_SIZE] > limits.members * _ENTRY_BYTES:
        raise DataContractError(
            f"{origin} has {record[_COUNT]} members listed in {record[_SIZE]} bytes, expected at "
            f"most {limits.members}"
        )


def _check_entries(entries: list[zipfile.ZipInfo], origin: str, limits: Limits) -> None:
    if len(entries) > limits.members:
        raise DataContractError(
            f"{origin} has {len(entries)} members, expected at most {limits.members}"
        )
    seen: dict[str, str] = {}
    for entry in entries:
        name = entry.filename
        # What look-alike characters stand for counts: U+FF0E is a full stop to many readers.
        folded = unicodedata.normalize("NFKC", name)
        if why := _refusal(entry, folded, limits):
            raise DataContractError(f"{origin}: member {name!r} {why}")
        key = folded.casefold() if limits.folds else name
        if key in seen:
            raise DataContractError(
                f"{origin}: members {seen[key]!r} and {name!r} have the same name"
            )
        seen[key] = name
    total = sum(entry.file_size for entry in entries)
    if total > limits.total:
        largest = max(entries, key=lambda entry: entry.file_size)
        raise DataContractError(
            f"{origin} would take {total} bytes, over {limits.total}; member "
            f"{largest.filename!r} takes most"
        )


def _refusal(entry: zipfile.ZipInfo, name: str, limits: Limits) -> str | None:
    """Return what is wrong with an entry of this normalised name, if anything."""
    # zipfile cuts names at a zero byte.
    is_whole = entry.orig_filename == entry.filename and name.isprintable()
    # A backslash and a colon, which separate folders or name drives elsewhere, leave parts empty.
    parts = re.sub(r"[\\:]", "//", name.removesuffix("/")).split("/")
    if not is_whole or not {"", ".", ".."}.isdisjoint(parts):
        return "has an unsafe name"
    if stat.S_ISLNK(entry.external_attr >> 16):
        return "is a link"
    if entry.flag_bits & _ENCRYPTED:
        return "is encrypted"
    if entry.compress_type not in _PACKINGS:
        return "is packed in a way that is not read"
    if entry.file_size > limits.ratio * max(entry.compress_size, 1):
        return f"is compressed absurdly: {entry.compress_size} bytes for {entry.file_size}"
    return None
