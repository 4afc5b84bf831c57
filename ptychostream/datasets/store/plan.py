"""What a build will write, decided before anything is written."""

import hashlib
import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from itertools import pairwise
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ptychostream.datasets.large_tables import blocks_of, joined_rows, new_table
from ptychostream.datasets.store.format import (
    CHUNKS_PER_SHARD,
    FORMAT_VERSION,
    default_patterns_per_chunk,
)
from ptychostream.errors import ConfigurationError, DataContractError
from ptychostream.scan import Scan

#: What a scan holds beside its patterns.
_TABLES = ("positions", "positions_start", "scan_index", "probe", "bad_pixels", "object_guess")


@dataclass(frozen=True, eq=False, kw_only=True)
class StoreLayout:
    """Everything that decides a store's bytes.

    Attributes
    ----------
    starts : (E + 1,) int64
        Storage and acquisition rows at which each experiment begins, and the end.
    storage_order : (M,) int64
        Acquisition row that lies in each storage row.
    patterns_per_shard : int
        Patterns in one file, a multiple of the above.
    """

    scans: tuple[Scan, ...]
    starts: NDArray[np.int64]
    storage_order: NDArray[np.int64]
    dtype: np.dtype[Any]
    patterns_per_chunk: int
    patterns_per_shard: int

    @property
    def shape(self) -> tuple[int, int, int]:
        """M, N, N."""
        edge = self.scans[0].N
        return len(self.storage_order), edge, edge

    @property
    def num_shards(self) -> int:
        """Files that hold the patterns."""
        return -(-len(self.storage_order) // self.patterns_per_shard)

    def shard_rows(self, shard: int) -> tuple[int, int]:
        """Find the storage rows of a shard.

        Returns
        -------
        (int, int)
            Its first row, and the row after its last.
        """
        start = shard * self.patterns_per_shard
        return start, min(start + self.patterns_per_shard, len(self.storage_order))

    def fingerprint(self) -> str:
        """Digest of what decides the store's bytes; of the patterns, only the first are read."""
        digest = hashlib.sha256()
        head = {
            "format": FORMAT_VERSION,
            "dtype": self.dtype.str,
            "chunk": self.patterns_per_chunk,
            "shard": self.patterns_per_shard,
            "domain": self.scans[0].measurement_domain,
            "provenance": [scan.provenance for scan in self.scans],
            "metadata": [asdict(scan.metadata) for scan in self.scans],
        }
        digest.update(json.dumps(head, sort_keys=True, default=str).encode())
        for scan in self.scans:
            for name in _TABLES:
                table = getattr(scan, name)
                digest.update(f"{name} {None if table is None else table.shape}".encode())
                digest.update(b"" if table is None else np.ascontiguousarray(table).data)
            # A few patterns tell a file that was written anew under its old name.
            digest.update(np.ascontiguousarray(next(scan.patterns.blocks(16))).tobytes())
        return digest.hexdigest()


def plan_build(
    scans: tuple[Scan, ...],
    patterns_per_chunk: int | None,
    *,
    experiments: Sequence[int] | None = None,
) -> StoreLayout:
    """Decide how scans are laid out in a store.

    Parameters
    ----------
    patterns_per_chunk : int, optional
        Patterns that are compressed together; None makes chunks of about 2 MiB.
    experiments : sequence of int, optional
        Experiment of each scan, where several go on with the same; patterns of one experiment
        lie together, along one curve.

    Raises
    ------
    DataContractError
        If there is no scan, or two scans differ in N or in their measurement domain.
    ConfigurationError
        If `patterns_per_chunk` is below one.
    """
    if not scans:
        raise DataContractError("no scan was given to build a store from")
    first = scans[0]
    for scan in scans[1:]:
        if first.N != scan.N:
            raise DataContractError(
                f"{first.name} has patterns of {first.N} px but {scan.name} of {scan.N} px; "
                "a store holds one size: build two stores, or crop"
            )
        if first.measurement_domain != scan.measurement_domain:
            raise DataContractError(
                f"{first.name} holds {first.measurement_domain} but {scan.name} holds "
                f"{scan.measurement_domain}; convert one, or build two stores"
            )
    dtype = np.result_type(*(scan.patterns.dtype for scan in scans)).newbyteorder("=")
    chunk = patterns_per_chunk
    if chunk is None:
        chunk = default_patterns_per_chunk(first.N, dtype.itemsize)
    if chunk < 1:
        raise ConfigurationError(f"patterns_per_chunk={patterns_per_chunk} must be at least 1")
    starts = np.cumsum([0, *(scan.num_patterns for scan in scans)])
    total = int(starts[-1])
    # A small scan is one shard with no more chunks than it needs.
    chunks = min(CHUNKS_PER_SHARD, -(-total // chunk))
    numbers = np.arange(len(scans)) if experiments is None else np.asarray(experiments)
    rows = [np.arange(start, stop) for start, stop in pairwise(starts)]
    order = []
    for experiment in np.unique(numbers):
        parts = np.flatnonzero(numbers == experiment)
        own = joined_rows([rows[part] for part in parts])
        positions = joined_rows([scans[part].positions for part in parts])
        order.append(own[hilbert_order(positions)])
    return StoreLayout(
        scans=scans,
        starts=starts.astype(np.int64),
        storage_order=joined_rows(order),
        dtype=dtype,
        patterns_per_chunk=chunk,
        patterns_per_shard=chunk * chunks,
    )


#: Cells along one side of the curve's grid, as a power of two.
_LEVELS = 16

#: Positions that are processed together: their arrays stay in the processor's cache.
_TOGETHER = 2**14


def hilbert_order(positions: NDArray[np.float64]) -> NDArray[np.int64]:
    """Sort positions along a Hilbert curve, so that neighbours in space are close in order.

    Parameters
    ----------
    positions : (M, 2) float64
        Scan positions (x, y).

    Returns
    -------
    (M,) int64
        Rows of `positions` in curve order; equal cells keep their order.

    References
    ----------
    Hilbert, Math. Ann. 38 (1891) 459; the bitwise walk is the textbook one.

    Examples
    --------
    >>> hilbert_order(np.array([[0.0, 0.0], [1.0, 0.0], [1.0, 1.0], [0.0, 1.0]]))
    array([0, 3, 2, 1])
    """
    low = positions.min(axis=0)
    extent = max(float((positions.max(axis=0) - low).max()), np.finfo(float).tiny)
    along = new_table((len(positions),), np.int64)
    for rows in blocks_of(len(positions), _TOGETHER):
        along[rows] = _along_curve((positions[rows] - low) / extent)
    return np.argsort(along, kind="stable").astype(np.int64, copy=False)


def _along_curve(square: NDArray[np.float64]) -> NDArray[np.int64]:
    """Return how far along the curve points (M, 2) of the unit square lie."""
    x, y = (square * (2**_LEVELS - 1)).astype(np.int64).T.copy()
    along = np.zeros(len(square), dtype=np.int64)
    for level in range(_LEVELS - 1, -1, -1):
        side = 1 << level
        right, upper = (x & side) > 0, (y & side) > 0
        along += side * side * ((3 * right) ^ upper)
        # Turn the quadrant so that the curve enters and leaves it at the right corners.
        flip = ~upper & right
        x[flip], y[flip] = side - 1 - (x[flip] & (side - 1)), side - 1 - (y[flip] & (side - 1))
        x[~flip] &= side - 1
        y[~flip] &= side - 1
        swap = ~upper
        x[swap], y[swap] = y[swap], x[swap].copy()
    return along
