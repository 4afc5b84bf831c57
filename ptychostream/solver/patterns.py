"""The patterns of a scan, dealt into parts that are each a thin sample of the whole."""

import tempfile
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ptychostream.datasets.store import GroupStore
from ptychostream.scratch import allocate
from ptychostream.solver.tiles import Tiles

#: Parts into which a scan is dealt: each batch takes several.
PARTS = 48


class DealtPatterns:
    """Patterns in parts, each spread evenly over the scan, in memory or in a scratch file.

    Every update wants patterns from all over the scan: with those of one place at a time, long
    waves of the phase between places converge slowly. Dealing the patterns once lets each pass
    read whole parts one after the other, wherever the patterns lie. Within a part they are in
    the order of the store, so that neighbours on the object are computed together.

    `values` (M, N, N): patterns in dealt order, zero frequency in the corner, as measured.
    `rows` (M,): number of each pattern in its scan.
    `bounds` (parts + 1,): where each part begins.
    `good_pixels` (N, N): True where the detector can be trusted; centred.
    `are_counts`: whether `values` are photons, or their square roots.
    `total`: patterns of the whole scan, where other processes hold a part of them; None is M.
    """

    def __init__(
        self,
        values: NDArray[Any],
        rows: NDArray[np.int64],
        bounds: NDArray[np.int64],
        good_pixels: NDArray[np.bool_],
        *,
        are_counts: bool,
        device: torch.device | str = "cpu",
        total: int | None = None,
    ) -> None:
        self._values, self.rows, self.bounds = values, torch.from_numpy(rows), bounds
        self._are_counts, self.device = are_counts, torch.device(device)
        good = torch.from_numpy(np.fft.ifftshift(good_pixels)).to(self.device)
        self.weight = None if bool(good.all()) else good.float()
        self.total = len(values) if total is None else total

    @classmethod
    def of_array(
        cls,
        patterns: NDArray[Any],
        good_pixels: NDArray[np.bool_] | None = None,
        *,
        device: torch.device | str = "cpu",
    ) -> "DealtPatterns":
        """Deal counts (M, N, N) in memory, zero frequency centred."""
        order, bounds = deal(np.arange(len(patterns)), 0)
        values = np.fft.ifftshift(patterns[order], axes=(-2, -1))
        good = np.ones(patterns.shape[1:], bool) if good_pixels is None else good_pixels
        return cls(values, order, bounds, good, are_counts=True, device=device)

    @classmethod
    def of_store(
        cls,
        store: GroupStore,
        rows: NDArray[np.int64],
        *,
        good_pixels: NDArray[np.bool_],
        seed: int,
        memory_budget: int,
        scratch_folder: Path | None = None,
        num_threads: int = 0,
        device: torch.device | str = "cpu",
        tiles: Tiles | None = None,
    ) -> "DealtPatterns":
        """Read rows of a store chunk by chunk; a scratch file holds what is too large.

        Of each part, every one of several processes has the patterns of its tile.
        """
        in_storage_order = np.argsort(store.storage_rows[rows], kind="stable")
        order, bounds = deal(in_storage_order, seed)
        if tiles is not None and tiles.ranks.size > 1:
            order, bounds = share_of(order, bounds, tiles.is_mine)
        shape = (len(order), store.N, store.N)
        size = int(np.prod(shape)) * store.dtype.itemsize
        are_counts = store.measurement_domain == "counts"
        folder = None
        if size > memory_budget:
            folder = scratch_folder or Path(tempfile.gettempdir())
        # Square roots that fit into the memory are taken once, not in each pass.
        keeps_roots = are_counts and 4 * int(np.prod(shape)) <= memory_budget
        values = allocate(
            shape, np.float32 if keeps_roots else store.dtype, folder, purpose="the patterns"
        )
        _fill(values, store, rows[order], keeps_roots, num_threads)
        return cls(
            values,
            order,
            bounds,
            good_pixels,
            are_counts=are_counts and not keeps_roots,
            device=device,
            total=len(rows),
        )

    @property
    def edge(self) -> int:
        """Edge N of a pattern."""
        return int(self._values.shape[-1])

    def __len__(self) -> int:
        return len(self._values)

    @property
    def num_parts(self) -> int:
        """Number of parts."""
        return len(self.bounds) - 1

    def blocks(self, parts: NDArray[np.int64], length: int) -> Iterator["Block"]:
        """Yield the patterns of some parts, in blocks of up to `length`."""
        places = np.concatenate([np.arange(*self.bounds[part : part + 2]) for part in parts])
        for start in range(0, len(places), length):
            chosen = places[start : start + length]
            values = torch.from_numpy(self._gather(chosen).astype(np.float32, copy=False))
            values = values.to(self.device)
            if self.weight is not None:
                # Not by multiplication: what lies in bad pixels may be NaN.
                values.masked_fill_(self.weight == 0, 0)
            if self._are_counts:
                yield Block(chosen, self.rows[chosen], values, values.sqrt())
            else:
                yield Block(chosen, self.rows[chosen], values.square(), values)

    def _gather(self, places: NDArray[np.int64]) -> NDArray[Any]:
        """Copy patterns; consecutive ones are read as slices, which is fast in a file."""
        runs = np.split(places, np.flatnonzero(np.diff(places) != 1) + 1)
        return np.concatenate([self._values[run[0] : run[-1] + 1] for run in runs])


@dataclass(frozen=True)
class Block:
    """Some patterns that are computed together; the zero frequency is in the corner.

    `places` (B,): where they lie in dealt order.
    `rows` (B,): their numbers in the scan.
    `counts` (B, N, N): photons; zero in bad pixels.
    `amplitude` (B, N, N): square roots of the counts.
    """

    places: NDArray[np.int64]
    rows: Tensor
    counts: Tensor
    amplitude: Tensor


def deal(in_storage_order: NDArray[np.int64], seed: int) -> tuple[NDArray[Any], NDArray[Any]]:
    """Deal patterns into parts: of each run of neighbours, every part gets one.

    Returns `order` (M,): numbers of the patterns, part by part.
    Returns `bounds` (parts + 1,): where each part begins.
    """
    total = len(in_storage_order)
    parts = min(PARTS, total)
    rng = np.random.default_rng(seed)
    runs = -(-total // parts)
    # Each row is a permutation of the parts: the part of each pattern of a run.
    part = rng.permuted(np.tile(np.arange(parts), (runs, 1)), axis=1).ravel()[:total]
    by_part = np.argsort(part, kind="stable")
    bounds = np.concatenate([[0], np.cumsum(np.bincount(part, minlength=parts))])
    return in_storage_order[by_part], bounds


def share_of(
    order: NDArray[np.int64], bounds: NDArray[np.int64], is_mine: NDArray[np.bool_]
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Return one process's share of each part: its patterns, and where its parts begin."""
    kept = is_mine[order]
    lengths = [np.count_nonzero(kept[start:stop]) for start, stop in pairwise(bounds.tolist())]
    return order[kept], np.cumsum([0, *lengths])


def _fill(
    values: NDArray[Any],
    store: GroupStore,
    rows: NDArray[np.int64],
    takes_roots: bool,
    num_threads: int,
) -> None:
    """Decode each chunk once, and put its patterns where they belong."""
    chunk, inside = np.divmod(store.storage_rows[rows], store.patterns_per_chunk)
    by_chunk = np.argsort(chunk, kind="stable")
    numbers, firsts = np.unique(chunk[by_chunk], return_index=True)

    def read(number: int, members: NDArray[np.int64]) -> None:
        decoded = np.empty((store.patterns_per_chunk, store.N, store.N), store.dtype)
        store.chunks.read_chunk(number, decoded)
        chosen = np.fft.ifftshift(decoded[inside[members]], axes=(-2, -1))
        values[members] = np.sqrt(chosen, dtype=np.float32) if takes_roots else chosen

    with ThreadPoolExecutor(num_threads or None, thread_name_prefix="ptychostream-decode") as pool:
        # As a list: an error of a thread is raised here.
        list(pool.map(read, numbers.tolist(), np.split(by_chunk, firsts[1:])))
