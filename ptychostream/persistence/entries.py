"""Read members of a zip file from anywhere: everything is checked before it is read.

Nothing is ever extracted to disk, and no more memory is taken than the limits say.
"""

import io
import stat
import struct
import unicodedata
import zipfile
import zlib
from pathlib import Path
from types import TracebackType
from typing import IO, NamedTuple, NoReturn

from ptychostream.errors import DataContractError


class Limits(NamedTuple):
    """What no honest file comes near.

    Attributes
    ----------
    ratio : int
        Unpacked over packed bytes of a member.
    folds : bool
        Whether names that a file system or a reader may take for one are refused as one.
    """

    members: int = 64
    total: int = 4 * 2**30
    ratio: int = 50
    folds: bool = True


#: A zipped folder holds what else lay in it, which is never read.
FOLDER = Limits(members=4096, total=2**50, ratio=2**20, folds=False)

#: End of a zip file: the record that says where its directory is, and the longest comment.
_END, _END_BYTES, _COMMENT_BYTES = b"PK\5\6", 22, 2**16
#: The same for files with more than that record can say: the record, and what points at it.
_END_64, _END_64_BYTES, _POINTER, _POINTER_BYTES = b"PK\6\6", 56, b"PK\6\7", 20
#: Bytes of a directory entry that holds a path of usual length, generously.
_ENTRY_BYTES = 1024
_PACKINGS = (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED)
_ENCRYPTED = 1
#: What else zipfile raises for files that are not as they say.
_DAMAGED = (KeyError, ValueError, RuntimeError)


class Members:
    """The members of a zip file, checked; a context manager.

    Raises
    ------
    DataContractError
        If it is no readable zip file, or a member breaks a limit or has an unsafe name; the
        message names the member.
    """

    def __init__(self, source: Path | bytes, origin: str, limits: Limits | None = None) -> None:
        self.origin, self._limits = origin, limits or Limits()
        stream = io.BytesIO(source) if isinstance(source, bytes) else source.open("rb")
        try:
            _check_directory(stream, origin, self._limits)
            self._archive = zipfile.ZipFile(stream)
            self._stream = stream
            _check_entries(self._archive.infolist(), origin, self._limits)
        except (zipfile.BadZipFile, UnicodeError, ValueError, NotImplementedError) as error:
            stream.close()
            if isinstance(error, DataContractError):
                raise
            raise DataContractError(f"{origin} is not a readable archive: {error}") from error
        self.sizes = {entry.filename: entry.file_size for entry in self._archive.infolist()}
        self.comment = self._archive.comment

    def __enter__(self) -> "Members":
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._archive.close()
        self._stream.close()

    def read(self, name: str, *, at_most: int | None = None) -> bytes:
        """Read a member.

        Parameters
        ----------
        at_most : int, optional
            Bytes that it may have; None is the limit for all.

        Raises
        ------
        DataContractError
            If it is not there, is damaged or too large.
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
        except (zipfile.BadZipFile, zlib.error, OSError, EOFError, *_DAMAGED) as error:
            self.refuse(name, f"can't be read: {error}", error)

    def refuse(self, name: str, why: str, cause: Exception | None = None) -> NoReturn:
        """Say what is wrong with a member.

        Raises
        ------
        DataContractError
            Always.
        """
        raise DataContractError(f"{self.origin}: member '{name}' {why}") from cause


def _check_directory(stream: IO[bytes], origin: str, limits: Limits) -> None:
    """Check the directory's size, before it is read into memory entry by entry."""
    length = stream.seek(0, io.SEEK_END)
    start = stream.seek(max(0, length - _END_BYTES - _COMMENT_BYTES))
    tail = stream.read()
    at = tail.rfind(_END)
    if at < 0 or len(tail) < at + _END_BYTES:
        raise zipfile.BadZipFile("it is no zip file, or its end is missing")
    count, size = struct.unpack_from("<HL", tail, at + 10)
    large_count, large_size = _large_directory(stream, start + at, origin)
    stream.seek(0)
    count, size = max(count, large_count), max(size, large_size)
    if count > limits.members or size > limits.members * _ENTRY_BYTES:
        raise DataContractError(
            f"{origin} has {count} members listed in {size} bytes, expected at most "
            f"{limits.members}"
        )


def _large_directory(stream: IO[bytes], end: int, origin: str) -> tuple[int, int]:
    """Read entries and bytes of the directory from the zip64 record before the end; 0, 0 if none.

    Large files have one, and PyTorch's checkpoints whatever their size.
    """
    pointer_at = end - _POINTER_BYTES
    if pointer_at < 0:
        return 0, 0
    stream.seek(pointer_at)
    pointer = stream.read(_POINTER_BYTES)
    if not pointer.startswith(_POINTER):
        return 0, 0
    record_at = pointer_at - _END_64_BYTES
    record = b""
    if record_at >= 0:
        stream.seek(record_at)
        record = stream.read(_END_64_BYTES)
    # Readers differ in where they look for the record: all must find this one.
    (said_at,) = struct.unpack_from("<Q", pointer, 8)
    if not record.startswith(_END_64) or said_at != record_at:
        raise DataContractError(
            f"{origin} is not a readable archive: its zip64 record is said to be at byte "
            f"{said_at}, expected it at byte {record_at}; copy the file again"
        )
    here, count, size = struct.unpack_from("<QQQ", record, 24)
    return max(here, count), size


def _check_entries(entries: list[zipfile.ZipInfo], origin: str, limits: Limits) -> None:
    if len(entries) > limits.members:
        raise DataContractError(
            f"{origin} has {len(entries)} members, expected at most {limits.members}"
        )
    seen: dict[str, str] = {}
    for entry in entries:
        name = entry.filename
        for wrong, why in (
            (_is_unsafe(entry), "has an unsafe name"),
            (stat.S_ISLNK(entry.external_attr >> 16), "is a link"),
            (entry.flag_bits & _ENCRYPTED, "is encrypted"),
            (entry.compress_type not in _PACKINGS, "is packed in a way that is not read"),
            (
                entry.file_size > limits.ratio * max(entry.compress_size, 1),
                f"is compressed absurdly: {entry.compress_size} bytes for {entry.file_size}",
            ),
        ):
            if wrong:
                raise DataContractError(f"{origin}: member {name!r} {why}")
        folded = unicodedata.normalize("NFKC", name).casefold() if limits.folds else name
        if folded in seen:
            raise DataContractError(
                f"{origin}: members {seen[folded]!r} and {name!r} have the same name"
            )
        seen[folded] = name
    total = sum(entry.file_size for entry in entries)
    if total > limits.total:
        largest = max(entries, key=lambda entry: entry.file_size)
        raise DataContractError(
            f"{origin} would take {total} bytes, over {limits.total}; member "
            f"{largest.filename!r} takes most"
        )


def _is_unsafe(entry: zipfile.ZipInfo) -> bool:
    # What look-alike characters stand for counts: U+FF0E is a full stop to many.
    name = unicodedata.normalize("NFKC", entry.filename)
    # zipfile cuts names at a zero byte.
    cut = entry.orig_filename != entry.filename
    parts = name.removesuffix("/").split("/")
    hidden = any(unicodedata.category(letter)[0] == "C" for letter in name)
    return cut or hidden or "\\" in name or ":" in name or any(p in ("", ".", "..") for p in parts)
