"""Compute which groups are read, in which order, and by which rank; reads nothing."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Literal, get_args

import numpy as np
from numpy.typing import NDArray

from ptychostream.datasets.grouping.table import Groups
from ptychostream.datasets.large_tables import blocks_of, new_table, row_type, sorted_rows
from ptychostream.errors import ConfigurationError

#: Neighbouring chunks that are drawn together when shuffling: groups reach into the chunks
#: beside their own; those of a run need only chunks of the run, except at its ends.
RUN_LENGTH = 16

Order = Literal["shuffled", "table", "storage"]


@dataclass(frozen=True, eq=False)
class Window:
    """Groups that are served from one set of decoded chunks.

    Attributes
    ----------
    chunks : (K,) int64
        Chunks to decode, ascending.
    groups : (W,) int
        Rows of the group table, in the order in which they are served.
    """

    chunks: NDArray[np.int64]
    groups: NDArray[np.integer]


@dataclass(frozen=True, eq=False)
class ChunksOfMembers:
    """Chunk in which each member of each group lies, looked up for some groups at a time.

    Attributes
    ----------
    groups : (G, C) int64
        Rows of the members.
    chunk_of_row : (M,) int
        Chunk of each row.
    """

    groups: NDArray[np.int64]
    chunk_of_row: NDArray[np.integer]

    def __len__(self) -> int:
        return len(self.groups)

    def __getitem__(self, rows: Any) -> NDArray[np.integer]:
        """Look up some groups, and some of their members."""
        return self.chunk_of_row[self.groups[rows]]


@dataclass(frozen=True, eq=False, kw_only=True)
class EpochOrder:
    """The order of one epoch, the same on every rank; each rank serves its share of it.

    Attributes
    ----------
    windows : tuple of Window
        In the order in which they are served.
    drop_last : bool
        Whether batches that are not full are left out.
    """

    windows: tuple[Window, ...]
    batch_size: int
    drop_last: bool = False

    def share(self, rank: int, world_size: int) -> list[Window]:
        """Return the part of the windows that a rank serves.

        Returns
        -------
        list of Window
            Where all chunks are in memory at once, the rank's part of each batch of all ranks
            together: batches are then those of one process with the larger batch. Else a
            consecutive part of the epoch, so that few chunks are decoded by two ranks.
        """
        if len(self.windows) == 1 and world_size > 1:
            (window,) = self.windows
            return [Window(window.chunks, window.groups[self._dealt(rank, world_size)])]
        total = sum(len(window.groups) for window in self.windows)
        first, last = rank * total // world_size, (rank + 1) * total // world_size
        shares, at = [], 0
        for window in self.windows:
            low, high = max(first - at, 0), min(last - at, len(window.groups))
            if low < high:
                shares.append(Window(window.chunks, window.groups[low:high]))
            at += len(window.groups)
        return shares

    def batch_totals(self, world_size: int) -> list[int]:
        """Count the groups of each batch over all ranks."""
        sizes = [self.batch_sizes(rank, world_size) for rank in range(world_size)]
        return [sum(parts) for parts in zip(*sizes, strict=True)]

    def _dealt(self, rank: int, world_size: int) -> NDArray[np.int64]:
        """Return indices of a rank's groups where batches of all ranks follow each other."""
        sizes = [self.batch_sizes(each, world_size) for each in range(world_size)]
        parts, at = [], 0
        for batch in zip(*sizes, strict=True):
            first = at + sum(batch[:rank])
            parts.append(np.arange(first, first + batch[rank]))
            at += sum(batch)
        return np.concatenate(parts) if parts else np.empty(0, dtype=np.int64)

    def batch_sizes(self, rank: int, world_size: int) -> list[int]:
        """Length of each batch of a rank; every rank has the same number of batches.

        Ranks differ by one group at most. Where that group would need a batch of its own, it
        joins the last one, which is then one longer than asked for.

        Raises
        ------
        ConfigurationError
            If there are fewer groups than ranks.
        """
        total = sum(len(window.groups) for window in self.windows)
        if total < world_size:
            raise ConfigurationError(f"{total} groups cannot be shared by {world_size} ranks")
        size, smallest = self.batch_size, total // world_size
        if self.drop_last:
            return [size] * (smallest // size)
        mine = (rank + 1) * total // world_size - rank * total // world_size
        number = -(-smallest // size)
        return [size] * (number - 1) + [mine - size * (number - 1)]


@dataclass(frozen=True, eq=False, kw_only=True)
class EpochSampler:
    """Which groups an epoch serves, in which order, and which of them this process serves.

    Attributes
    ----------
    groups : Groups
        Which patterns are seen together.
    batch_size : int
        Groups per batch B.
    order : str
        `shuffled` draws runs of chunks at random and mixes the groups of a window; `table` keeps
        the order of the group table; `storage` follows the chunks, which reads least.
    seed : int
        Decides the shuffle, together with the number of the epoch.
    rank, world_size : int
        This process and the number of processes.
    drop_last : bool
        Whether batches that are not full are left out.
    """

    groups: Groups
    batch_size: int = 16
    order: Order = "shuffled"
    seed: int = 0
    rank: int = 0
    world_size: int = 1
    drop_last: bool = False

    def __post_init__(self) -> None:
        """Check the numbers."""
        if self.order not in get_args(Order):
            raise ConfigurationError(
                f"order={self.order!r} is unknown; use one of {get_args(Order)}"
            )
        if self.seed < 0:
            raise ConfigurationError(f"seed={self.seed} must not be negative")
        if not 0 <= self.rank < self.world_size:
            raise ConfigurationError(f"rank={self.rank} must lie in 0 … {self.world_size - 1}")

    def plan(
        self,
        chunk_of_row: NDArray[np.integer],
        num_chunks: int,
        *,
        window_chunks: int,
        epoch: int,
    ) -> EpochOrder:
        """Plan one epoch over a store whose rows (M,) lie in these chunks."""
        return plan_epoch(
            ChunksOfMembers(self.groups.nn_indices, chunk_of_row),
            num_chunks,
            batch_size=self.batch_size,
            order=self.order,
            window_chunks=window_chunks,
            seed=self.seed,
            epoch=epoch,
            drop_last=self.drop_last,
        )


def plan_epoch(
    chunk_of_member: NDArray[np.integer] | ChunksOfMembers,
    num_chunks: int,
    *,
    batch_size: int,
    order: Order,
    window_chunks: int,
    seed: int = 0,
    epoch: int = 0,
    drop_last: bool = False,
) -> EpochOrder:
    """Plan one epoch.

    Parameters
    ----------
    chunk_of_member : (G, C) int
        Chunk in which each member of each group lies; the first column is that of the centre.
    order : str
        `shuffled` draws runs of chunks at random and mixes the groups of a window; `table` keeps
        the order of the group table; `storage` follows the chunks, which reads least.
    window_chunks : int
        Most chunks of a window, unless one chunk's groups alone need more.

    Raises
    ------
    ConfigurationError
        If the batch size is below one, or there are no groups.
    """
    if order not in get_args(Order):
        raise ConfigurationError(f"order={order!r} is unknown; use one of {get_args(Order)}")
    if batch_size < 1:
        raise ConfigurationError(f"batch_size={batch_size} must be at least 1")
    if not len(chunk_of_member):
        raise ConfigurationError("there are no groups to serve")
    rng = np.random.default_rng((seed, epoch))
    # All windows' groups are one table, which is smaller than the table of groups.
    served = new_table((len(chunk_of_member),), row_type(len(chunk_of_member)))
    windows, at = [], 0
    for blocks, chunks in _pack(
        _blocks(chunk_of_member, num_chunks, order, rng), chunk_of_member, window_chunks
    ):
        groups = served[at : at + sum(map(len, blocks))]
        np.concatenate(blocks, out=groups)
        if order == "shuffled":
            rng.shuffle(groups)
        windows.append(Window(chunks, groups))
        at += len(groups)
    return EpochOrder(windows=tuple(windows), batch_size=batch_size, drop_last=drop_last)


def _blocks(
    chunk_of_member: NDArray[np.integer] | ChunksOfMembers,
    num_chunks: int,
    order: Order,
    rng: np.random.Generator,
) -> Iterator[NDArray[np.integer]]:
    """Yield the groups in small blocks that stay together."""
    # A block is the groups around the patterns of one chunk. Patterns lie along a Hilbert curve,
    # so that such groups need this chunk and a few beside it, whatever order the blocks come in.
    number = len(chunk_of_member)
    if order == "table":
        yield from (np.arange(block.start, block.stop) for block in _even_blocks(number, 64))
        return
    by_chunk, bounds = sorted_rows(lambda groups: chunk_of_member[groups, 0], number, num_chunks)
    chunks = np.arange(num_chunks)
    if order == "shuffled":
        # The first run starts anywhere, so that windows differ from epoch to epoch.
        shifted = np.roll(chunks, int(rng.integers(num_chunks)))
        runs = [shifted[at : at + RUN_LENGTH] for at in range(0, num_chunks, RUN_LENGTH)]
        chunks = np.concatenate([runs[at] for at in rng.permutation(len(runs))])
    for chunk in chunks:
        block = by_chunk[bounds[chunk] : bounds[chunk + 1]]
        if len(block):
            yield block


def _even_blocks(number: int, most: int) -> Iterator[slice]:
    """Split rows into blocks of up to `most` whose lengths differ by one at most."""
    length, longer = divmod(number, -(-number // most))
    middle = longer * (length + 1)
    yield from blocks_of(middle, length + 1)
    for block in blocks_of(number - middle, length):
        yield slice(middle + block.start, middle + block.stop)


def _pack(
    blocks: Iterator[NDArray[np.integer]],
    chunk_of_member: NDArray[np.integer] | ChunksOfMembers,
    window_chunks: int,
) -> Iterator[tuple[list[NDArray[np.integer]], NDArray[np.int64]]]:
    """Join blocks while the chunks (K,) that they need fit into a window."""
    # Greedily: blocks come in runs of neighbours, whose chunks are mostly the same, so that a
    # window holds nearly as many blocks as chunks and a chunk is rarely decoded for two windows.
    held: list[NDArray[np.integer]] = []
    needed: set[int] = set()
    for block in blocks:
        more = set(np.unique(chunk_of_member[block]).tolist())
        if held and len(needed | more) > window_chunks:
            yield held, np.array(sorted(needed), np.int64)
            held, needed = [], set()
        held.append(block)
        needed |= more
    if held:
        yield held, np.array(sorted(needed), np.int64)
