"""Patterns in an HDF5 dataset, read and written in blocks."""

from pathlib import Path
from typing import Any

import h5py
import numpy as np
from numpy.typing import NDArray
from typing_extensions import override

from ptychostream.errors import DataContractError
from ptychostream.scan import PatternSource, Scan

_SIGNATURE = b"\x89HDF\r\n\x1a\n"

#: Patterns that are compressed together in files that we write.
_PER_CHUNK = 64


def is_hdf5(path: Path) -> bool:
    """Say whether a file begins as HDF5 files do."""
    if not path.is_file():
        return False
    with path.open("rb") as stream:
        return stream.read(len(_SIGNATURE)) == _SIGNATURE


class Hdf5Patterns(PatternSource):
    """Patterns in an HDF5 dataset; the file is open only while it is read.

    Datasets by external links and virtual datasets over several files are read as HDF5 resolves
    them; bitshuffle and LZ4 filters come with hdf5plugin.

    Parameters
    ----------
    shape : (int, int, int)
        M, N, N: those of `rows`, where given.
    rows : (M,) int64, optional
        Which rows of the dataset, where not all of them are used.
    """

    def __init__(
        self,
        path: Path,
        name: str,
        shape: tuple[int, int, int],
        dtype: np.dtype[Any],
        rows: NDArray[np.int64] | None = None,
    ) -> None:
        self._path, self._name, self._dtype = path, name, dtype
        self._rows = np.arange(shape[0]) if rows is None else rows
        self._shape = (len(self._rows), shape[1], shape[2])

    #: Rows that are compressed together would be decoded again for each scattered read.
    random_access = False

    @property
    @override
    def shape(self) -> tuple[int, int, int]:
        return self._shape

    @property
    @override
    def dtype(self) -> np.dtype[Any]:
        return self._dtype

    @override
    def read(self, rows: NDArray[np.int64]) -> NDArray[Any]:
        wanted, inverse = np.unique(self._rows[np.asarray(rows)], return_inverse=True)
        if not len(wanted):
            return np.empty((0, *self._shape[1:]), self._dtype)
        # HDF5 gathers listed rows slowly: consecutive ones are read as a slice.
        consecutive = wanted[-1] - wanted[0] + 1 == len(wanted)
        try:
            import hdf5plugin  # noqa: F401  (registers its filters with HDF5)

            with h5py.File(self._path, "r") as file:
                data = file[self._name]
                block = data[wanted[0] : wanted[-1] + 1] if consecutive else data[wanted]
        except (OSError, KeyError) as error:
            raise DataContractError(
                f"'{self._path}': '{self._name}' can't be read in rows {wanted[0]} to "
                f"{wanted[-1]} ({error}); copy the file again, with the files that it links to, "
                "and see that its compression filter is installed"
            ) from error
        return np.asarray(block)[inverse]


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
        values = np.square(block, dtype=np.float32) if is_amplitude else block
        patterns[at : at + len(block)] = values
        at += len(block)
    bad = scan.bad_pixels
    file["bad_pixels"] = np.zeros((edge, edge), bool) if bad is None else bad
    return patterns
