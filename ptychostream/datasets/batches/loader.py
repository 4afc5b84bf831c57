"""Stream a store's groups as TensorDict batches, with bounded memory."""

import hashlib
from collections.abc import Iterator
from functools import cached_property
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from tensordict import TensorDict

from ptychostream.datasets.batches.filling import BatchFiller, Target
from ptychostream.datasets.batches.pattern_cache import cached_patterns, default_cache_folder
from ptychostream.datasets.batches.resuming import check_same_order, check_state, drop_groups
from ptychostream.datasets.batches.sampler import EpochOrder, EpochSampler, Order, Window
from ptychostream.datasets.batches.scaling import Scales, scales_of
from ptychostream.datasets.batches.windows import (
    AHEAD,
    DecodedWindow,
    decoded_windows,
    whole_window,
)
from ptychostream.datasets.grouping.table import Groups
from ptychostream.datasets.large_tables import blocks_of, new_table
from ptychostream.datasets.store.group_store import GroupStore
from ptychostream.errors import ConfigurationError
from ptychostream.geometry import split_coordinates
from ptychostream.memory import parse_bytes

#: Part of a GPU's free memory that a window may take.
_DEVICE_SHARE = 0.25

#: Groups whose coordinates are read together.
_BLOCK = 2**16


class GroupLoader:
    """Batches of one rank's share of the groups; made by `make_loader`.

    A loader is an iterable with a length. Each epoch is a pure function of its sampler, the
    number of the epoch and the memory; `state_dict` in mid-epoch resumes at the very next batch.

    Parameters
    ----------
    store : GroupStore
        The patterns.
    epochs : EpochSampler
        Which groups are served, in which order, and by which rank.
    scales : Scales
        Factors put into the batches.
    device : str
        Where batches go.
    device_for_windows : str, optional
        Where torch gathers batches from windows; None chooses, see `to`.
    memory_budget : int
        Bytes for decoded windows.
    num_threads : int
        Threads that decode; 0 is one per core.
    ahead : int
        Windows decoded ahead.
    cache_folder : Path, optional
        Where decoded patterns are kept in a file; None streams them.
    """

    #: Lightning reads this attribute of a loader.
    batch_sampler = None

    def __init__(
        self,
        store: GroupStore,
        epochs: EpochSampler,
        scales: Scales,
        *,
        device: str,
        device_for_windows: str | None = None,
        memory_budget: int,
        num_threads: int = 0,
        ahead: int = AHEAD,
        cache_folder: Path | None = None,
    ) -> None:
        if ahead < 0 or num_threads < 0:
            raise ConfigurationError(
                f"ahead={ahead} and num_threads={num_threads} must not be negative"
            )
        self._store, self._scales, self._memory_budget = store, scales, memory_budget
        self.epochs, self.num_threads, self._ahead = epochs, num_threads, ahead
        self._chunk_bytes = store.patterns_per_chunk * store.N**2 * store.dtype.itemsize
        # A store that fits stays in memory. Otherwise the window being served and those decoded
        # ahead share it.
        in_flight = 1 if store.num_chunks * self._chunk_bytes <= memory_budget else 1 + ahead
        self._window_chunks = max(1, memory_budget // (self._chunk_bytes * in_flight))
        self._resident: DecodedWindow | None = None
        self._cache_folder = cache_folder
        self.to(torch.device(device), device_for_windows=device_for_windows)
        self._epoch = 0
        self._served = self._resume_at = 0

    @property
    def sampler(self) -> "GroupLoader":
        """The loader itself: Lightning sets the epoch through this attribute."""
        return self

    def __len__(self) -> int:
        return len(self.order.batch_sizes(self.epochs.rank, self.epochs.world_size))

    @property
    def bad_pixels(self) -> NDArray[np.bool_]:
        """Pixels (E, N, N) of each experiment that cannot be trusted."""
        return self._store.bad_pixels

    @property
    def batch_totals(self) -> list[int]:
        """Groups of each batch, over all ranks."""
        return self.order.batch_totals(self.epochs.world_size)

    def __iter__(self) -> Iterator[TensorDict]:
        skip, rank, world_size = self._resume_at, self.epochs.rank, self.epochs.world_size
        self._resume_at, self._served = 0, skip
        sizes = self.order.batch_sizes(rank, world_size)
        windows = self.order.share(rank, world_size)
        if skip:
            windows = drop_groups(windows, sum(sizes[:skip]))
        filler = BatchFiller(self._store, self.epochs.groups, self._scales, self._target)
        for batch in filler.batches(self._decoded(windows), sizes[skip:]):
            self._served += 1
            yield batch
        self._served = 0

    def reach(self, members: int) -> int:
        """Return how far patterns lie from the mean positions of their groups.

        Parameters
        ----------
        members : int
            Columns of the group table that make up a group, C; the rest are held-out neighbours.

        Returns
        -------
        int
            Pixels along an axis, rounded up; no group of any epoch reaches farther.
        """
        table, farthest = self.epochs.groups.nn_indices[:, :members], 0.0
        for start in range(0, len(table), _BLOCK):
            _, relative = split_coordinates(self._store.positions, table[start : start + _BLOCK])
            farthest = max(farthest, float(np.abs(relative).max()))
        return int(np.ceil(farthest))

    def to(
        self,
        device: torch.device,
        *,
        pins: bool = True,
        device_for_windows: torch.device | str | None = None,
    ) -> "GroupLoader":
        """Choose the device of the batches.

        Parameters
        ----------
        device : torch.device
            The device.
        pins : bool
            Whether windows go to a GPU through page-locked memory, without waiting for them.
        device_for_windows : torch.device or str, optional
            Where windows move as they are stored, and torch gathers batches from them. None is
            `device` unless that is the CPU, or a GPU where a window takes more than a quarter of
            the free memory: batches are then gathered in the host's memory, and move.

        Returns
        -------
        GroupLoader
            This one.
        """
        self._resident = None
        if device_for_windows is not None:
            windows: torch.device | None = torch.device(device_for_windows)
        elif device.type == "cuda":
            free, _ = torch.cuda.mem_get_info(device)
            # The rest is for the network.
            windows = device if self.window_fits(free * _DEVICE_SHARE) else None
        else:
            windows = None if device.type == "cpu" else device
        self._target = Target(device, windows, pins and device.type == "cuda")
        return self

    def window_fits(self, room: float) -> bool:
        """Return whether a window takes at most this many bytes of a device."""
        if self._cache_folder is not None:
            # The whole cache is one window, and page-locked memory is memory too.
            room = min(room, self._memory_budget)
            return self._store.num_chunks * self._chunk_bytes <= room
        return self._plan_chunks * self._chunk_bytes <= room

    def set_epoch(self, epoch: int) -> None:
        """Set the epoch, which decides the order.

        Parameters
        ----------
        epoch : int
            Number of the epoch.
        """
        if epoch != self._epoch:
            self._epoch, self._served, self._resume_at = epoch, 0, 0
            self.__dict__.pop("order", None)

    def state_dict(self) -> dict[str, Any]:
        """Return the state: epoch, batches already served, and all that decides the order."""
        return {"epoch": self._epoch, "served": self._served, **self._order_depends_on()}

    def _order_depends_on(self) -> dict[str, Any]:
        """Collect what an epoch is a function of, beside its number."""
        epochs = self.epochs
        return {
            "window_chunks": self._plan_chunks,
            "batch_size": epochs.batch_size,
            "order": epochs.order,
            "seed": epochs.seed,
            "drop_last": epochs.drop_last,
            "world_size": epochs.world_size,
            "groups": self._groups_digest,
            "store": self._store.identity,
        }

    @cached_property
    def _groups_digest(self) -> str:
        table = np.ascontiguousarray(self.epochs.groups.nn_indices)
        return hashlib.sha256(table.data).hexdigest()

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Continue from the state of another loader with the same arguments.

        Parameters
        ----------
        state : dict
            From `state_dict`.

        Raises
        ------
        ConfigurationError
            If it is no such state, or lies within an epoch of another order, or of a shorter one.
        """
        check_state(state)
        if state["served"]:
            check_same_order(state, self._order_depends_on())
        self.set_epoch(state["epoch"])
        if state["served"] > len(self):
            raise ConfigurationError(
                f"{state['served']} batches were served, but an epoch has {len(self)}: go on with "
                "the groups, batch_size and world_size of before"
            )
        self._served = self._resume_at = state["served"]

    @property
    def _plan_chunks(self) -> int:
        """Chunks of a window, as far as they decide the order."""
        return min(self._window_chunks, self._store.num_chunks)

    @cached_property
    def order(self) -> EpochOrder:
        """The order of the current epoch."""
        return self.epochs.plan(
            self._chunk_of_row,
            self._store.num_chunks,
            window_chunks=self._window_chunks,
            epoch=self._epoch,
        )

    @cached_property
    def _chunk_of_row(self) -> NDArray[np.int32]:
        """Chunk of each row (M,)."""
        rows = self._store.storage_rows
        chunks = new_table((len(rows),), np.int32)
        for block in blocks_of(len(rows)):
            chunks[block] = rows[block] // self._store.patterns_per_chunk
        return chunks

    def _chunks_of(self, groups: NDArray[np.integer]) -> NDArray[np.integer]:
        return self._chunk_of_row[self.epochs.groups.nn_indices[groups]]

    def _decoded(self, windows: list[Window]) -> Iterator[DecodedWindow]:
        """Decode windows ahead; a store that fits into one window is decoded only once."""
        if self._resident is None and self._cache_folder is not None:
            patterns = cached_patterns(self._store, self._cache_folder)
            firsts = np.arange(self._store.num_chunks) * self._store.patterns_per_chunk
            self._resident = DecodedWindow(np.empty(0, np.int64), patterns, firsts)
        if self._resident is None and len(self.order.windows) > 1:
            yield from decoded_windows(
                self._store,
                windows,
                self._chunks_of,
                window_chunks=self._window_chunks,
                num_threads=self.num_threads,
                ahead=self._ahead,
            )
            return
        if self._resident is not None and self._has_room_for_amplitudes(self._resident):
            self._resident = self._resident.as_amplitudes()
        for window in windows:
            if self._resident is None:
                self._resident = whole_window(
                    self._store, window, self._chunks_of, num_threads=self.num_threads
                )
            yield self._resident.serving(window.groups)

    def _has_room_for_amplitudes(self, window: DecodedWindow) -> bool:
        """Return whether to keep a window's amplitudes from now on.

        Where more than one epoch is served, taking each root once is worth the memory. Not on a
        device: it has less memory, and computes them faster than it would read them.
        """
        if window.has_amplitudes or self._cache_folder is not None or not window.is_decoded:
            return False
        # Counts and amplitudes are there together for a moment.
        pixels = window.num_patterns * self._store.N**2
        fits = pixels * (4 + self._store.dtype.itemsize) <= self._memory_budget
        return fits and self._target.windows is None and self._store.measurement_domain == "counts"


def make_loader(
    store: GroupStore,
    groups: Groups,
    *,
    batch_size: int = 16,
    shuffle: bool = True,
    seed: int = 0,
    device: str = "cpu",
    memory_budget: str | int = "1 GiB",
    rank: int = 0,
    world_size: int = 1,
    drop_last: bool = False,
    order: Order | None = None,
    scales: Scales | None = None,
    num_threads: int = 0,
    ahead: int = AHEAD,
    device_for_windows: str | None = None,
    cache: Literal["memmap"] | None = None,
    cache_folder: Path | None = None,
) -> GroupLoader:
    """Make a loader of batches; see `datasets.batch.ENTRIES` for what a batch holds.

    Parameters
    ----------
    store : GroupStore
        The patterns.
    groups : Groups
        The groups.
    batch_size : int
        Groups per batch B.
    shuffle : bool
        Whether the order is random, a new one each epoch; else it is that of the group table.
    seed : int
        Decides the shuffle.
    device : str
        Where batches go.
    memory_budget : str or int
        Memory for decoded windows; batches come on top.
    rank, world_size : int
        This process and the number of processes: over all ranks each group once per epoch, and
        equal numbers of batches.
    drop_last : bool
        Whether batches that are not full are left out.
    order : str, optional
        `storage` serves groups in the order that reads least; takes the place of `shuffle`.
    scales : Scales, optional
        Factors put into the batches; None derives them from this store.
    num_threads : int
        Threads that decode; 0 is one per core.
    ahead : int
        Windows decoded ahead of the one that is served; more are smaller, within the memory.
    device_for_windows : str, optional
        Where torch gathers batches from windows; None is `device` if that is a GPU with room for
        a window, else the host's memory.
    cache : str, optional
        `memmap` decodes all patterns once into a file, which later runs find again, and maps it
        into memory: worth it where the same store is read for many epochs.
    cache_folder : Path, optional
        Where that file lies; None is the user's cache folder.

    Returns
    -------
    GroupLoader
        An iterable of TensorDict, with a length.

    Raises
    ------
    ConfigurationError
        If a number is out of range.
    """
    if cache not in (None, "memmap"):
        raise ConfigurationError(f"cache={cache!r} is unknown; there is 'memmap'")
    if cache_folder is not None and cache is None:
        raise ConfigurationError("cache_folder does nothing without cache='memmap'; set it")
    epochs = EpochSampler(
        groups=groups,
        batch_size=batch_size,
        order=order or ("shuffled" if shuffle else "table"),
        seed=seed,
        rank=rank,
        world_size=world_size,
        drop_last=drop_last,
    )
    return GroupLoader(
        store,
        epochs,
        scales or scales_of(store),
        device=device,
        device_for_windows=device_for_windows,
        memory_budget=parse_bytes(memory_budget),
        num_threads=num_threads,
        ahead=ahead,
        cache_folder=(cache_folder or default_cache_folder()) if cache else None,
    )
