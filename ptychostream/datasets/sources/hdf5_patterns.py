"""Patterns in an HDF5 dataset, read and written in blocks."""

import math
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import h5py
import numpy as np
from numpy.typing import NDArray
from typing_extensions import override

from ptychostream.datasets.sources.hdf5_links import check_sources, find, open_linked_hdf5
from ptychostream.errors import DataContractError
from ptychostream.files import check_expansion
from ptychostream.pattern_sources import OpenedPatterns
from ptychostream.scan import Scan, to_counts

_SIGNATURE = b"\x89HDF\r\n\x1a\n"

#: Patterns that are compressed together in files that we write.
_PER_CHUNK = 64

#: Bytes that are held while a dataset is brought into the order of its patterns.
_HELD = 2**26


def is_hdf5(path: Path) -> bool:
    """Return whether a file begins as HDF5 files do."""
    if not path.is_file():
        return False
    with path.open("rb") as stream:
        # MATLAB's files have 512 bytes of their own before.
        head = stream.read(512 + len(_SIGNATURE))
    return head.startswith(_SIGNATURE) or head[512:] == _SIGNATURE


class Hdf5Patterns(OpenedPatterns):
    """Patterns in an HDF5 dataset; the file is open only while it is read.

    Datasets by external links and virtual datasets over several files are read as HDF5 resolves
    them; bitshuffle and LZ4 filters come with hdf5plugin.

    `shape`: of the dataset: (M, H, W), or (…, H, W) for raster scans, whose last scan axis runs
        fastest.
    `rows` (M,): which patterns of the dataset, where not all of them are used.
    """

    def __init__(
        self,
        path: Path,
        name: str,
        shape: tuple[int, ...],
        dtype: np.dtype[Any],
        rows: NDArray[np.int64] | None = None,
    ) -> None:
        self._path, self._name, self._dtype = path, name, dtype
        self._scan_shape = shape[:-2]
        number = math.prod(self._scan_shape)
        # Eight bytes each, before anything else is known of them.
        check_expansion(f"'{path}': '{name}'", 8 * number, path.stat().st_size)
        self._rows = np.arange(number) if rows is None else rows
        self._shape = (len(self._rows), shape[-2], shape[-1])

    #: Single rows can be read, only not as quickly as whole chunks.
    seekable = True

    #: Rows that are compressed together would be decoded again for each scattered read.
    random_access = False

    @override
    def read(self, rows: NDArray[np.int64]) -> NDArray[Any]:
        wanted, inverse = np.unique(self._rows[np.asarray(rows)], return_inverse=True)
        if not len(wanted):
            return np.empty((0, *self._shape[1:]), self._dtype)
        try:
            with open_linked_hdf5(self._path) as file:
                block = self._gathered(file[self._name], wanted)
        except (OSError, KeyError) as error:
            raise DataContractError(
                f"'{self._path}': '{self._name}' can't be read in rows {wanted[0]} to "
                f"{wanted[-1]} ({error}); copy the file again, with the files that it links to, "
                "and see that its compression filter is installed"
            ) from error
        return np.asarray(block)[inverse]

    def _gathered(self, data: Any, wanted: NDArray[np.int64]) -> Any:
        if len(self._scan_shape) != 1:
            # Of a raster scan, whole lines are read, as far as they are wanted.
            per_line = math.prod(self._scan_shape[1:])
            first, last = int(wanted[0]) // per_line, int(wanted[-1]) // per_line
            if last - first + 1 > len(wanted):
                parts = [data[np.unravel_index(int(row), self._scan_shape)] for row in wanted]
                return np.stack(parts)
            lines = np.asarray(data[first : last + 1]).reshape(-1, *self._shape[1:])
            return lines[wanted - first * per_line]
        # HDF5 gathers listed rows slowly: consecutive ones are read as a slice.
        if wanted[-1] - wanted[0] + 1 == len(wanted):
            return data[wanted[0] : wanted[-1] + 1]
        return data[wanted]

    @override
    def blocks(self, length: int) -> Iterator[NDArray[Any]]:
        with open_linked_hdf5(self._path) as file:
            chunks = file[self._name].chunks if self._name in file else None
        if chunks is None or len(chunks) != 3 or chunks[0] <= 4 * length:
            step = length
            if chunks is not None and len(chunks) == 3 and chunks[0] > 1:
                # Blocks of whole chunks: each is decoded once.
                step = max(1, length // chunks[0]) * chunks[0]
            for block in super().blocks(step):
                for start in range(0, len(block), length):
                    yield block[start : start + length]
            return
        with tempfile.TemporaryFile() as scratch:
            self._copy_by_pattern(scratch, chunks)
            everything = math.prod(self._scan_shape)
            one = math.prod(self._shape[1:]) * self._dtype.itemsize
            in_order = np.array_equal(self._rows, np.arange(everything))
            for start in range(0, self._shape[0], length):
                rows = self._rows[start : start + length]
                runs = [(rows[0], len(rows))] if in_order else [(row, 1) for row in rows]
                data = b""
                for first, count in runs:
                    scratch.seek(int(first) * one)
                    data += scratch.read(int(count) * one)
                yield np.frombuffer(data, self._dtype).reshape(-1, *self._shape[1:])

    def _copy_by_pattern(self, scratch: Any, chunks: tuple[int, ...]) -> None:
        """Write patterns one after another; chunks run along the scan, so each is decoded once."""
        number, height, width = self._scan_shape[0], *self._shape[1:]
        size = self._dtype.itemsize
        scratch.truncate(number * height * width * size)
        columns = max(1, _HELD // (number * chunks[1] * chunks[2] * size)) * chunks[2]
        window = max(1, _HELD // (height * width * size))
        with open_linked_hdf5(self._path) as file:
            data = file[self._name]
            for row in range(0, height, chunks[1]):
                for column in range(0, width, columns):
                    part = data[:, row : row + chunks[1], column : column + columns]
                    for start in range(0, number, window):
                        stop = min(start + window, number)
                        target = np.memmap(
                            scratch,
                            self._dtype,
                            "r+",
                            start * height * width * size,
                            (stop - start, height, width),
                        )
                        target[:, row : row + part.shape[1], column : column + part.shape[2]] = (
                            part[start:stop]
                        )
                        del target


def hdf5_patterns(file: Any, name: str, path: Path) -> Hdf5Patterns:
    """Open the patterns of a file, after it is clear that all files that it needs are there."""
    data = find(file, name, path)
    if data is None or not isinstance(data, h5py.Dataset):
        raise DataContractError(f"'{path}': '{name}' is no array; it holds {', '.join(file)}")
    if data.ndim < 3:
        raise DataContractError(f"'{path}': '{name}' is {data.shape}, expected (M, N, N)")
    check_sources(data, path)
    _check_filters(data, f"'{path}': '{name}'")
    return Hdf5Patterns(path, name, data.shape, data.dtype)


def _check_filters(data: Any, where: str) -> None:
    """Refuse values that a filter has compressed which is not installed."""
    plist = data.id.get_create_plist()
    for number in range(plist.get_nfilters()):
        code, _, _, name = plist.get_filter(number)
        if not h5py.h5z.filter_avail(code):
            raise DataContractError(
                f"{where} is compressed by the HDF5 filter {code} "
                f"({name.decode(errors='replace') or 'without a name'}), which is not installed: "
                "install the package that brings it, or a newer hdf5plugin, or let "
                "HDF5_PLUGIN_PATH name its folder; h5repack writes the file anew without it"
            )


def write_counts(scan: Scan, file: h5py.File) -> h5py.Dataset:
    """Write patterns and bad pixels as ptychodus names them, block by block."""
    edge, number = scan.N, scan.num_patterns
    is_amplitude = scan.measurement_domain == "amplitude"
    patterns = file.create_dataset(
        "patterns",
        (number, edge, edge),
        np.dtype(np.float32) if is_amplitude else scan.patterns.dtype,
        chunks=(min(number, _PER_CHUNK), edge, edge),
        compression="lzf",
    )
    at = 0
    for block in scan.patterns.blocks(_PER_CHUNK):
        patterns[at : at + len(block)] = to_counts(block, scan.measurement_domain)
        at += len(block)
    bad = scan.bad_pixels
    file["bad_pixels"] = np.zeros((edge, edge), bool) if bad is None else bad
    return patterns
