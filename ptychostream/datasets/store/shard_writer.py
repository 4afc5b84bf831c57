"""Read the patterns of one shard, check them, and write them: the unit of a build's work."""

import hashlib
import io
import json
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ptychostream.datasets.store.plan import StoreLayout
from ptychostream.datasets.store.plausibility import refusal_of_values
from ptychostream.datasets.store.shards import encode_shard, shard_file
from ptychostream.datasets.store.staging import StagedStore
from ptychostream.errors import DataContractError
from ptychostream.scan import PatternSource, Scan


@dataclass(frozen=True, kw_only=True, eq=False)
class ShardRecord:
    """What a build records of a finished shard.

    Attributes
    ----------
    name : str
        Its file, relative to the store.
    whole : bool
        Whether all its values are counts, or amplitudes whose squares are whole.
    above_one : bool
        Whether one of these is above one.
    """

    name: str
    size: int
    sha256: str
    whole: bool
    above_one: bool


@dataclass(frozen=True, eq=False)
class ShardJob:
    """Everything a worker needs to write a shard; picklable.

    Attributes
    ----------
    sources : tuple of PatternSource
        The patterns of each experiment, readable in any order.
    """

    staged: StagedStore
    plan: StoreLayout
    sources: tuple[PatternSource, ...]

    def write(self, shard: int) -> ShardRecord:
        """Write one shard.

        Raises
        ------
        DataContractError
            If a pattern holds values that no detector measures.
        """
        patterns, energy, looks = self._gather(shard)
        data = encode_shard(
            patterns,
            patterns_per_chunk=self.plan.patterns_per_chunk,
            chunks_per_shard=self.plan.patterns_per_shard // self.plan.patterns_per_chunk,
        )
        name = shard_file(shard)
        self.staged.storage.write(name, data)
        stream = io.BytesIO()
        np.save(stream, energy)
        self.staged.records.write(f"energy-{shard}.npy", stream.getvalue())
        digest = hashlib.sha256(data).hexdigest()
        record = ShardRecord(name=name, size=len(data), sha256=digest, **looks)
        # Written last: a record that exists is complete.
        self.staged.records.write(f"shard-{shard}.json", json.dumps(record.__dict__).encode())
        return record

    def finished(self, shard: int) -> ShardRecord | None:
        """Find a shard that an earlier build finished."""
        records = self.staged.records
        if not records.has(f"energy-{shard}.npy"):
            return None
        try:
            record = ShardRecord(**json.loads(records.read(f"shard-{shard}.json")))
        except FileNotFoundError:
            return None
        return record if self.staged.is_intact(record.name, record.size, record.sha256) else None

    def energies(self) -> NDArray[np.float64]:
        """Collect the energy of every pattern, in acquisition order.

        Returns
        -------
        (M,) float64
            Σ counts, or Σ amplitude², over the good pixels.
        """
        energy = np.empty(self.plan.shape[0])
        stored = [
            np.load(io.BytesIO(self.staged.records.read(f"energy-{shard}.npy")))
            for shard in range(self.plan.num_shards)
        ]
        energy[self.plan.storage_order] = np.concatenate(stored)
        return energy

    def _gather(self, shard: int) -> tuple[NDArray[Any], NDArray[np.float64], dict[str, bool]]:
        plan = self.plan
        start, stop = plan.shard_rows(shard)
        rows = plan.storage_order[start:stop]
        patterns = np.empty((stop - start, *plan.shape[1:]), plan.dtype)
        energy = np.empty(stop - start)
        whole, above_one = True, False
        scan_of_row = np.searchsorted(plan.starts, rows, side="right") - 1
        for number in np.unique(scan_of_row):
            scan, source, first = plan.scans[number], self.sources[number], plan.starts[number]
            here = np.flatnonzero(scan_of_row == number)
            # Ascending rows are read fastest; small blocks bound what reading and checking hold.
            here = here[np.argsort(rows[here])]
            for part in np.array_split(here, max(1, -(-len(here) // plan.patterns_per_chunk))):
                if not len(part):
                    continue
                wanted = rows[part] - first
                block = source.read(wanted).astype(plan.dtype, copy=False)
                block, energy[part], is_whole, above = _examined(block, wanted, scan)
                patterns[part] = block
                whole, above_one = whole and is_whole, above_one or above
        return patterns, energy, {"whole": whole, "above_one": above_one}


def _examined(
    block: NDArray[Any], rows: NDArray[np.int64], scan: Scan
) -> tuple[NDArray[Any], NDArray[np.float64], bool, bool]:
    """Check patterns; returns them cleaned, their energies, and whether they look like counts."""
    bad = None if scan.bad_pixels is None or not scan.bad_pixels.any() else scan.bad_pixels
    if not _is_valid(block):
        good = np.ones(block.shape[1:], bool) if bad is None else ~bad
        valid = np.isfinite(block) & (block >= 0)
        if not (valid | ~good).all():
            raise DataContractError(refusal_of_values(scan, good))
        # Detectors mark dead pixels with -1 or NaN; the values of flagged pixels are not used.
        block = np.where(valid, block, block.dtype.type(0))
    if scan.measurement_domain == "counts":
        return block, _sums(block, bad), True, True
    squared = np.square(block, dtype=np.float64)
    if bad is not None:
        squared[:, bad] = 0
    whole = bool((np.abs(squared - np.rint(squared)) <= 0.01 + 1e-6 * squared).all())
    return block, squared.sum(axis=(1, 2)), whole, bool(squared.max() > 1)


def _is_valid(block: NDArray[Any]) -> bool:
    """Return whether all values are finite and not negative, without a copy of them."""
    if block.dtype.kind == "u":
        return True
    # The smallest of values with a NaN is NaN, which is not greater than anything.
    return bool(block.min(initial=0) >= 0 and np.isfinite(block.max(initial=0)))


def _sums(block: NDArray[Any], bad: NDArray[np.bool_] | None) -> NDArray[np.float64]:
    """Return the sum (B,) of the good values of each pattern."""
    if block.dtype.kind == "f":
        good = True if bad is None else ~bad
        return np.asarray(block.sum(axis=(1, 2), dtype=np.float64, where=good))
    # Sums of integers are exact, and take a third of the time without a mask.
    wide = np.dtype(f"{block.dtype.kind}8")
    sums = block.reshape(len(block), -1).sum(axis=1, dtype=wide)
    if bad is not None:
        sums -= block[:, bad].sum(axis=1, dtype=wide)
    return np.asarray(sums.astype(np.float64))
