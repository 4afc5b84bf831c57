"""Arrays inside an NPZ file, read without unpickling and without loading the whole member."""

import logging
import math
import struct
import tokenize
import zipfile
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Any

import numpy as np
from isal.isal_zlib import crc32
from numpy.typing import NDArray
from typing_extensions import override

from ptychostream.datasets.sources.file_patterns import FilePatterns
from ptychostream.errors import DataContractError
from ptychostream.files import check_expansion, zip_entry_offset
from ptychostream.pattern_sources import OpenedPatterns
from ptychostream.plain_pickle import loads_text

logger = logging.getLogger(__name__)

Shape = tuple[int, ...]

#: What reading a damaged archive raises.
_DAMAGE = (
    zipfile.BadZipFile,
    zlib.error,
    struct.error,
    tokenize.TokenError,
    ArithmeticError,
    EOFError,
    LookupError,
    OSError,
    RuntimeError,
    SyntaxError,
    TypeError,
    ValueError,
)

#: PtychoPINN's description of a simulation: JSON text in a pickled array.
METADATA = "_metadata"
#: Bytes that it may have.
_METADATA_BYTES = 2**20

#: Bytes that are read at once to compare a checksum.
_PIECE = 2**20


class NpzMembers:
    """The members of an NPZ file: name, shape and dtype known, data read when asked for."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._headers: dict[str, tuple[Shape, bool, np.dtype[Any]]] = {}
        #: PtychoPINN's metadata as JSON text, where the file has them; nothing is executed for it.
        self.ptychopinn_metadata: str | None = None
        try:
            with zipfile.ZipFile(path) as archive:
                for entry in archive.infolist():
                    if entry.filename.endswith(".npy"):
                        self._read_header(archive, entry)
                    else:
                        # Opened to check it: a member with a damaged name must be an error.
                        archive.open(entry).close()
        except _DAMAGE as error:
            if isinstance(error, DataContractError):
                raise
            raise DataContractError(
                f"'{path}' can't be read ({error}); copy or convert it again"
            ) from error

    def __contains__(self, name: str) -> bool:
        return name in self._headers

    def keys(self) -> list[str]:
        """List the readable members."""
        return list(self._headers)

    def shape(self, name: str) -> Shape:
        """Return a member's shape without reading it."""
        return self._headers[name][0]

    def stack_shape(self, name: str) -> tuple[int, int, int]:
        """Return the shape of a stack of patterns without reading it.

        Returns M, N and N; of a raster scan, all its positions one after another.
        """
        shape = self.shape(name)
        return math.prod(shape[:-2]), shape[-2], shape[-1]

    def dtype(self, name: str) -> np.dtype[Any]:
        """Return a member's dtype without reading it."""
        return self._headers[name][2]

    def read(self, name: str) -> NDArray[Any]:
        """Read a whole member."""
        try:
            with zipfile.ZipFile(self.path) as archive, archive.open(f"{name}.npy") as stream:
                entry = archive.getinfo(f"{name}.npy")
                label = f"'{self.path}': '{name}'"
                check_expansion(label, entry.file_size, entry.compress_size)
                array = np.lib.format.read_array(stream, allow_pickle=False)
                # Zip checks the checksum at the end of the member only.
                stream.read(1)
                return np.asarray(array)
        except DataContractError:
            raise
        except _DAMAGE as error:
            raise self._damaged(name, error) from error

    def is_plain(self, name: str) -> bool:
        """Return whether a member is stored uncompressed, in C order.

        Returns True where it lies in the file as it is, pattern by pattern.
        """
        with zipfile.ZipFile(self.path) as archive:
            stored = archive.getinfo(f"{name}.npy").compress_type == zipfile.ZIP_STORED
        return stored and not self._headers[name][1]

    def patterns(self, name: str) -> "FilePatterns | StreamedPatterns":
        """Open a stack of patterns."""
        if self.is_plain(name):
            shape, offset = self.stack_shape(name), self.data_offset(name)
            return MemberPatterns(self, name, shape, offset)
        if self._headers[name][1]:
            raise DataContractError(
                f"'{self.path}': '{name}' is in Fortran order, which can't be read pattern by "
                "pattern; save it again with np.ascontiguousarray"
            )
        return StreamedPatterns(self, name)

    def check(self, name: str) -> None:
        """Compare an uncompressed member with its checksum; DataContractError if they differ."""
        with zipfile.ZipFile(self.path) as archive:
            entry = archive.getinfo(f"{name}.npy")
        found, left = 0, entry.file_size
        with self.path.open("rb", buffering=0) as file:
            file.seek(zip_entry_offset(self.path, entry.header_offset))
            buffer = memoryview(bytearray(_PIECE))
            while left and (count := file.readinto(buffer[:left])):
                found, left = crc32(buffer[:count], found), left - count
        if left or found != entry.CRC:
            raise self._damaged(name, "it fails its checksum")

    def data_offset(self, name: str) -> int:
        """Find where an uncompressed member's values begin in the file."""
        shape, _, dtype = self._headers[name]
        with zipfile.ZipFile(self.path) as archive, archive.open(f"{name}.npy") as stream:
            _skip_header(stream)
            header = stream.tell()
            start = archive.getinfo(f"{name}.npy").header_offset
        offset = zip_entry_offset(self.path, start) + header
        if offset + int(np.prod(shape)) * dtype.itemsize > self.path.stat().st_size:
            raise self._damaged(name, "the file is truncated")
        return offset

    def _read_header(self, archive: zipfile.ZipFile, entry: zipfile.ZipInfo) -> None:
        name = entry.filename.removesuffix(".npy")
        if name in self._headers:
            raise DataContractError(f"'{self.path}' holds '{name}' twice")
        with archive.open(entry) as stream:
            shape, fortran, dtype = _skip_header(stream)
            if name == METADATA and dtype.hasobject:
                pickled = stream.read(_METADATA_BYTES)
                self.ptychopinn_metadata = loads_text(pickled, f"'{self.path}': '{name}'")
                return
        if dtype.hasobject:
            logger.warning(
                "'%s': member '%s' is pickled and was left unread; nothing is unpickled",
                self.path,
                name,
            )
            return
        declared = math.prod(shape) * dtype.itemsize
        if min(shape, default=0) < 0 or declared > entry.file_size:
            raise DataContractError(
                f"'{self.path}': '{name}' says that it is {shape} {dtype}, but holds "
                f"{entry.file_size} bytes; copy the file again"
            )
        self._headers[name] = (shape, fortran, dtype)

    def _damaged(self, name: str, reason: object) -> DataContractError:
        return DataContractError(
            f"'{self.path}': member '{name}' can't be read ({reason}); copy the file again"
        )

    def stream(self, name: str, length: int) -> Iterator[NDArray[Any]]:
        """Stream a compressed member in blocks.

        Yields (B, ...): a block; the last may be shorter.
        """
        _, _, dtype = self._headers[name]
        shape = self.stack_shape(name)
        one = int(np.prod(shape[1:])) * dtype.itemsize
        try:
            with zipfile.ZipFile(self.path) as archive, archive.open(f"{name}.npy") as stream:
                _skip_header(stream)
                for start in range(0, shape[0], length):
                    count = min(length, shape[0] - start)
                    data = stream.read(count * one)
                    if len(data) != count * one:
                        raise EOFError(f"it ends in row {start + len(data) // one}")
                    yield np.frombuffer(data, dtype).reshape(count, *shape[1:])
                stream.read(1)
        except _DAMAGE as error:
            raise self._damaged(name, error) from error


class MemberPatterns(FilePatterns):
    """Patterns of an uncompressed member, which are read in any order."""

    def __init__(
        self, members: NpzMembers, name: str, shape: tuple[int, int, int], offset: int
    ) -> None:
        super().__init__(members.path, shape, members.dtype(name), offset)
        self._members, self._name = members, name

    @override
    def check(self) -> None:
        self._members.check(self._name)


class StreamedPatterns(OpenedPatterns):
    """Patterns of a compressed member: read from the first to the last."""

    random_access = False

    def __init__(self, members: NpzMembers, name: str) -> None:
        self._members, self._name = members, name
        self._shape, self._dtype = members.stack_shape(name), members.dtype(name)

    @override
    def blocks(self, length: int) -> Iterator[NDArray[Any]]:
        return self._members.stream(self._name, length)

    @override
    def read(self, rows: NDArray[np.int64]) -> NDArray[Any]:
        rows = np.asarray(rows)
        out = np.empty((len(rows), *self.shape[1:]), self.dtype)
        start = 0
        for block in self.blocks(256):
            here = (rows >= start) & (rows < start + len(block))
            out[here] = block[rows[here] - start]
            start += len(block)
            if start > rows.max(initial=-1):
                break
        return out


def _skip_header(stream: IO[bytes]) -> tuple[Shape, bool, np.dtype[Any]]:
    version = np.lib.format.read_magic(stream)
    read = (
        np.lib.format.read_array_header_1_0
        if version == (1, 0)
        else np.lib.format.read_array_header_2_0
    )
    return read(stream)
