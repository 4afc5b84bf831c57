"""NPZ scans that declare their quantity, as diffraction data of ptychodus."""

import tempfile
import threading
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from ptychodus.api.diffraction import DiffractionDataset, DiffractionFileReader

from ptychodus_ext.files.lazy_dataset import Part, make_dataset
from ptychostream.datasets.sources import InputOptions, read_scan
from ptychostream.datasets.sources.npz_members import NpzMembers
from ptychostream.datasets.store.spool import uncompressed_copy
from ptychostream.errors import DataContractError
from ptychostream.scan import PatternSource, Scan, to_counts

#: Bytes of patterns that are read together.
_PART_BYTES = 32 * 2**20


class NpzReader(DiffractionFileReader):
    """Reads NPZ scans whose quantity is known; amplitudes are squared."""

    def read(self, file_path: Path) -> DiffractionDataset:
        """Open a scan; no pattern is read yet.

        `file_path`: an NPZ file with `diff3d`, and `measurement_domain` unless the patterns are
            integers.
        """
        _check_declared(file_path)
        scan = read_scan(file_path, format="npz", options=InputOptions(look="none"))
        numbers = scan.scan_index
        if numbers is None or len(np.unique(numbers)) < len(numbers):
            numbers = np.arange(scan.num_patterns)
        patterns = _Patterns(scan)
        is_counts = scan.measurement_domain == "counts"
        dtype = scan.patterns.dtype if is_counts else np.dtype(np.float32)
        length = max(1, _PART_BYTES // (scan.N**2 * dtype.itemsize))
        parts = []
        for start in range(0, scan.num_patterns, length):
            rows = np.arange(start, min(start + length, scan.num_patterns))
            label = f"patterns {start} to {rows[-1]}"
            parts.append(Part(label, numbers[rows], partial(patterns.read, rows)))
        bad = scan.bad_pixels
        if bad is None:
            bad = np.zeros((scan.N, scan.N), bool)
        return make_dataset(file_path, parts, dtype, bad, scan.metadata)


class _Patterns:
    """Counts of a scan, from any thread; compressed ones are unpacked once, when first read."""

    def __init__(self, scan: Scan) -> None:
        self._scan, self._lock = scan, threading.Lock()
        self._source: PatternSource | None = None

    def read(self, rows: NDArray[np.int64]) -> NDArray[Any]:
        return to_counts(self._unpacked().read(rows), self._scan.measurement_domain)

    def _unpacked(self) -> PatternSource:
        with self._lock:
            if self._source is None:
                with tempfile.TemporaryDirectory(prefix="ptychostream-") as folder:
                    # A mapped file stays readable after it has been deleted.
                    self._source = uncompressed_copy(
                        self._scan.patterns, Path(folder) / "patterns.raw"
                    )
            return self._source


def _check_declared(file_path: Path) -> None:
    members = NpzMembers(file_path)
    key = "diff3d" if "diff3d" in members else "diffraction"
    if "measurement_domain" in members or key not in members:
        return
    if members.dtype(key).kind not in "iu":
        raise DataContractError(
            f"'{file_path}': '{key}' is {members.dtype(key)} and nothing says whether it holds "
            "counts or amplitudes; add measurement_domain='counts' or 'amplitude' to the file"
        )
