"""An open store: tables, patterns by row, groups by their parameters, verification."""

import hashlib
import logging
import time
import warnings
from collections.abc import Iterator
from contextlib import AbstractContextManager
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path, PurePath
from typing import Any

import numpy as np
from numpy.typing import NDArray
from typing_extensions import override

from ptychostream.datasets.grouping.parameters import GroupingParameters, NeighborFunction, Policy
from ptychostream.datasets.grouping.table import Groups, compute_groups
from ptychostream.datasets.large_tables import row_numbers, sorted_rows
from ptychostream.datasets.store.chain import Blocks, open_chain, segment_name
from ptychostream.datasets.store.chunk_cache import ChunkCache
from ptychostream.datasets.store.chunks import StoredChunks
from ptychostream.datasets.store.format import FINISHED, GROUPINGS, SEGMENTS
from ptychostream.datasets.store.joined_tables import joined_tables
from ptychostream.datasets.store.kept_groupings import keep_grouping, load_grouping
from ptychostream.datasets.store.manifest import Files, manifest_digest, read_manifest
from ptychostream.datasets.store.segment import Segment, open_segment
from ptychostream.datasets.store.staging import is_being_replaced
from ptychostream.datasets.store.storage import REQUESTS_IN_FLIGHT, StoreFiles, open_location
from ptychostream.errors import ConfigurationError, DataContractError, MissingFileError
from ptychostream.memory import parse_bytes
from ptychostream.pattern_sources import OpenedPatterns, SubsetPatterns
from ptychostream.scan import MeasurementDomain, Scan, ScanMetadata

logger = logging.getLogger(__name__)

#: Memory for the chunks that were decoded last, and disk space for fetched files.
_CACHE_BUDGET = "64 MiB"
_CACHE_LIMIT = "20 GiB"

#: A store that is being replaced is opened again, so often and after so many seconds.
_TRIES, _BETWEEN_TRIES_S = 50, 0.01


@dataclass(frozen=True, eq=False)
class GroupStore:
    """A store, open for reading, as it was when it was opened: later changes are not seen.

    Rows are always in acquisition order. M is the number of patterns over all E experiments, P of
    probe modes, N the edge of a pattern.

    Attributes
    ----------
    path : Path or str
        The store's folder, or its URL.
    positions : (M, 2) float64
        Scan positions (x, y) on the object grid, in pixels.
    positions_start : (M, 2) float64
        Nominal positions.
    experiment_id : (M,) int64
        Experiment of each pattern.
    scan_index : (M,) int64
        Number of each pattern within its own scan.
    total_counts : (M,) float64
        Sum over each pattern of its counts (or amplitude²).
    probe : (E, P, N, N) complex64
        Illumination of each experiment; missing modes are zero.
    bad_pixels : (E, N, N) bool
        True where the detector can't be trusted.
    attributes : dict
        The store's own record: domain, dose, provenance.
    segments : tuple of Segment
        What was built, then what was appended.
    cache : ChunkCache
        Chunks that `diffraction` decoded last; loaders have a cache of their own.
    """

    path: Path | str
    positions: NDArray[np.float64]
    positions_start: NDArray[np.float64]
    experiment_id: NDArray[np.int64]
    scan_index: NDArray[np.int64]
    total_counts: NDArray[np.float64]
    probe: NDArray[np.complex64]
    bad_pixels: NDArray[np.bool_]
    attributes: dict[str, Any]
    segments: tuple[Segment, ...]
    cache: ChunkCache

    def __reduce__(self) -> Any:
        """Pickle as a path; unpickling checks that the store is unchanged."""
        contents = [(each.blocks, each.files) for each in self.segments]
        return _open_same, (self.path, contents, self._storage.cache_options)

    @property
    def address(self) -> str:
        """The store's absolute path, or its URL: opens it from anywhere."""
        return self.path if isinstance(self.path, str) else str(self.path.resolve())

    @property
    def energy(self) -> NDArray[np.float64]:
        """The old name of `total_counts`."""
        warnings.warn("energy is called total_counts now", DeprecationWarning, stacklevel=2)
        return self.total_counts

    @cached_property
    def identity(self) -> str:
        """Digest of all files: stores with the same one are the same, byte for byte."""
        parts = "".join(manifest_digest(segment.files) for segment in self.segments)
        return hashlib.sha256(parts.encode()).hexdigest()

    @property
    def num_patterns(self) -> int:
        """Number of patterns, M."""
        return len(self.positions)

    @property
    def num_experiments(self) -> int:
        """Number of experiments, E."""
        return len(self.probe)

    @property
    def experiment_names(self) -> list[str]:
        """Names (E,) of the experiments: the file that each began with, without its ending.

        Empty where there was no file.
        """
        return [
            PurePath(str(source["file"])).stem if "file" in source else ""
            for source in self.attributes["provenance"]
        ]

    @property
    def N(self) -> int:
        """Edge of a pattern, in pixels."""
        return int(self.probe.shape[-1])

    @property
    def dtype(self) -> np.dtype[Any]:
        """Data type of the stored patterns, as measured."""
        return np.dtype(self.segments[0].array.dtype)

    @property
    def measurement_domain(self) -> MeasurementDomain:
        """Whether the stored patterns are `counts` or `amplitude`."""
        domain: MeasurementDomain = self.attributes["measurement_domain"]
        return domain

    @property
    def has_photon_counts(self) -> bool:
        """Whether the data carry their dose: counts, or amplitudes whose squares are whole."""
        return self.measurement_domain == "counts" or bool(self.attributes["whole_counts"])

    @property
    def patterns_per_chunk(self) -> int:
        """Patterns that are decoded together."""
        return int(self.attributes["patterns_per_chunk"])

    @property
    def num_chunks(self) -> int:
        """Chunks that hold the patterns."""
        return self.chunks.number

    @property
    def object_guess(self) -> NDArray[np.complex64] | None:
        """The object (H, W) of a store's only experiment, None where it has none.

        Raises
        ------
        DataContractError
            If there are several experiments: ask `object_guess_of`.
        """
        if self.num_experiments > 1:
            raise DataContractError(
                f"'{self.path}' holds {self.num_experiments} experiments; ask object_guess_of(e)"
            )
        return self.object_guess_of(0)

    def object_guess_of(self, experiment: int) -> NDArray[np.complex64] | None:
        """Read the object (H, W) complex64 of one experiment; None where the source had none."""
        guesses = (segment.object_guess(experiment) for segment in self.segments)
        return next((guess for guess in guesses if guess is not None), None)

    def metadata_of(self, experiment: int) -> ScanMetadata:
        """Return what is known about one experiment."""
        return ScanMetadata(**self.attributes["metadata"][experiment])

    def rows(self, experiment: int) -> NDArray[np.int64]:
        """Return the rows (M,) int64 of one experiment, ascending.

        Raises
        ------
        DataContractError
            If there is no such experiment.
        """
        if not 0 <= experiment < self.num_experiments:
            raise DataContractError(
                f"'{self.path}' has no experiment {experiment}; it holds {self.num_experiments}"
            )
        if self.num_experiments == 1:
            return row_numbers(self.num_patterns)
        rows, starts = self._rows_by_experiment
        return rows[starts[experiment] : starts[experiment + 1]].astype(np.int64)

    @cached_property
    def _rows_by_experiment(self) -> tuple[NDArray[np.integer], NDArray[np.int64]]:
        # Sorted once for all experiments: each search would go through all patterns.
        return sorted_rows(
            lambda rows: self.experiment_id[rows], self.num_patterns, self.num_experiments
        )

    def pattern_numbers(self, experiment: int) -> NDArray[np.int64]:
        """Return numbers (M,) int64 that pair the patterns of one experiment with positions.

        They are `scan_index` where these are all different, otherwise 0, 1, ….
        """
        numbers = self.scan_index[self.rows(experiment)]
        return numbers if len(np.unique(numbers)) == len(numbers) else np.arange(len(numbers))

    @property
    def is_complete(self) -> bool:
        """Whether nothing more will be appended, as far as is known."""
        return not self.attributes.get("growing") or self.is_finished

    @property
    def is_finished(self) -> bool:
        """Whether it was declared that nothing more will be appended."""
        return self._storage.has(FINISHED)

    @property
    def storage_rows(self) -> NDArray[np.int64]:
        """(M,) int64: chunk · `patterns_per_chunk` + number in the chunk, of each row.

        Each appended segment begins a new chunk, so that some numbers may be left out.
        """
        return self.chunks.storage_rows

    @cached_property
    def chunks(self) -> StoredChunks:
        """The patterns by chunk, as loaders read them."""
        return StoredChunks(self.segments, self.cache, reopen=lambda: self.refreshed().chunks)

    @property
    def _storage(self) -> StoreFiles:
        return self.segments[0].storage

    @property
    def requests_in_flight(self) -> int:
        """Chunks to request at the same time: many where the store is remote."""
        return REQUESTS_IN_FLIGHT if self._storage.is_remote else 1

    def read_chunk(
        self,
        chunk: int,
        out: NDArray[Any],
        *,
        decoding: AbstractContextManager[Any] | None = None,
    ) -> None:
        """Decode one chunk into `out` (patterns_per_chunk, N, N); see `StoredChunks.read_chunk`."""
        self.chunks.read_chunk(chunk, out, decoding)

    def diffraction(self, rows: Any) -> NDArray[Any]:
        """Read patterns as stored, in counts or amplitude and as measured.

        Parameters
        ----------
        rows : (B,) int
            Rows in acquisition order; any order, duplicates allowed.

        Returns
        -------
        (B, N, N)
            The patterns, in the order of `rows`.

        Raises
        ------
        IndexError
            If a row is not in the store, or no whole number.
        DataContractError
            If a chunk is damaged.
        """
        return self.chunks.read_rows(rows)

    @property
    def num_groupings(self) -> int:
        """Tables of groups that the store keeps."""
        return len(self._storage.folders(GROUPINGS))

    def groups(
        self,
        gridsize: int = 2,
        neighbor_count: int = 7,
        *,
        num_groups: int | None = None,
        groups_per_position: int = 1,
        neighbor_function: NeighborFunction = "nearest",
        sequential: bool = False,
        seed: int = 0,
        held_out: int = 0,
        n_subsample: int | None = None,
        enable_oversampling: bool = False,
        neighbor_pool_size: int | None = None,
        min_neighbor_distance: float = 0.0,
        max_neighbor_distance: float | None = None,
        policy: Policy = "default",
    ) -> Groups:
        """Find groups of neighbouring patterns: kept ones by their parameters, else computed.

        Parameters
        ----------
        gridsize : int
            Patterns along one side of a group, which holds C = gridsize².
        neighbor_count : int
            Nearest neighbours K that a group is drawn from, besides its centre.
        num_groups : int, optional
            Centres of groups in each experiment; None is every position. With
            `enable_oversampling`, the number of groups in each experiment.
        groups_per_position : int
            Groups drawn around each centre.
        neighbor_function : str
            `nearest` draws from the K nearest positions; `min_distance` from the K nearest that
            lie between two distances; `four_quadrant` takes one in each quadrant.
        sequential : bool
            Whether the first positions are the centres, instead of drawn ones.
        seed : int
            Seed of the draws.
        held_out : int
            Held-out neighbours drawn beyond C, the last columns of the table.
        n_subsample : int, optional
            Patterns drawn from each experiment before grouping; None is all.
        enable_oversampling : bool
            Whether more groups than positions may be drawn, all of them different.
        neighbor_pool_size : int, optional
            Nearest neighbours that oversampling combines; None is `neighbor_count`.
        min_neighbor_distance : float
            Least distance between centre and neighbour, in pixels (`min_distance`).
        max_neighbor_distance : float, optional
            Largest distance between centre and neighbour, in pixels (`min_distance`).
        policy : str
            `default` keeps the centre in its group; `upstream` draws exactly what PtychoPINN draws
            for this seed.

        Returns
        -------
        Groups
            The table.

        Raises
        ------
        ConfigurationError
            If an option is unknown, or has no effect beside the others.
        DataContractError
            If there are too few positions or neighbours.
        """
        parameters = GroupingParameters(
            gridsize=gridsize,
            neighbor_count=neighbor_count,
            num_groups=num_groups,
            groups_per_position=groups_per_position,
            neighbor_function=neighbor_function,
            sequential=sequential,
            seed=seed,
            held_out=held_out,
            n_subsample=n_subsample,
            enable_oversampling=enable_oversampling,
            neighbor_pool_size=neighbor_pool_size,
            min_neighbor_distance=min_neighbor_distance,
            max_neighbor_distance=max_neighbor_distance,
            policy=policy,
        )
        return self.kept_groups(parameters)

    def kept_groups(self, parameters: GroupingParameters) -> Groups:
        """Find a grouping: a kept one, else it is computed and kept."""
        kept = load_grouping(
            self._storage,
            parameters,
            num_patterns=self.num_patterns,
            grown_to=self._grown_to,
        )
        if kept is not None:
            return kept
        computed = compute_groups(self.positions, self.experiment_id, parameters)
        self.keep_groups(computed)
        return computed

    def keep_groups(self, groups: Groups) -> None:
        """Keep a table for `kept_groups`; it replaces one with the same parameters."""
        keep_grouping(self._storage, groups, grown_to=self._grown_to)

    @property
    def _grown_to(self) -> int:
        return self.num_patterns if len(self.segments) > 1 else 0

    def verify(self) -> None:
        """Read every file and compare it with the manifest.

        Raises
        ------
        DataContractError
            If a file is missing or changed in a single bit; the damaged chunk is named.
        """
        damage = [text for segment in self.segments for text in segment.damage()]
        if damage:
            raise DataContractError(
                f"store '{self.path}' is damaged: {'; '.join(damage)}; copy or build the store "
                "again"
            )

    def release(self) -> None:
        """Close the store's files, so that another store can replace them."""
        self._storage.release()

    def refreshed(self) -> "GroupStore":
        """Open the store as it is now; return this one where nothing has changed.

        Raises
        ------
        DataContractError
            If another store has taken its name.
        """
        storage = open_location(self.path)
        files = read_manifest(storage)
        if files != self.segments[0].files:
            folder, limit = self._storage.cache_options
            now = open_group_store(self.path, cache_folder=folder, cache_limit=limit)
            if manifest_digest(self.segments[0].files) not in now.attributes.get("compacted", ()):
                raise DataContractError(
                    f"'{self.path}' was replaced by another store; open it again"
                )
            return now
        appended = open_chain(self._storage, self.segments[1:])
        same = [s.blocks for s in appended] == [s.blocks for s in self.segments[1:]]
        return self if same else _of_segments(self.path, (self.segments[0], *appended), self.cache)

    def follow(
        self, *, interval_s: float = 1.0, timeout_s: float | None = None
    ) -> Iterator["GroupStore"]:
        """Iterate over a growing store: each time it has grown, until it is finished.

        Parameters
        ----------
        interval_s : float
            Seconds between two looks.
        timeout_s : float, optional
            Seconds without growth after which following ends, with a warning; None waits.

        Yields
        ------
        GroupStore
            The store as it was at that moment: first this one, last the finished one.

        Raises
        ------
        ConfigurationError
            If the interval is not positive.
        """
        if interval_s <= 0:
            raise ConfigurationError(f"interval_s={interval_s} must be positive")
        store, waited = self, 0.0
        yield store
        while True:
            # Check `is_complete` before refreshing, or the last segment could be missed.
            finished = store.is_complete
            grown = store.refreshed()
            has_grown = grown.num_patterns > store.num_patterns
            store = grown
            if has_grown:
                waited = 0.0
                yield store
            elif finished:
                return
            elif timeout_s is not None and waited >= timeout_s:
                logger.warning(
                    "'%s' has not grown for %g s and was never finished: %d patterns so far",
                    self.path,
                    waited,
                    store.num_patterns,
                )
                return
            else:
                time.sleep(interval_s)
                waited += interval_s

    def scan(self, experiment: int = 0) -> Scan:
        """Return one experiment as a scan, in acquisition order; patterns stay in the store."""
        return self.part(experiment, self.rows(experiment))

    def part(self, experiment: int, rows: NDArray[np.int64]) -> Scan:
        """Return the patterns in some rows (M,) of one experiment as a scan."""
        modes = self.attributes["probe_modes"][experiment]
        bad = self.bad_pixels[experiment]
        return Scan(
            name=f"'{self.path}'",
            patterns=SubsetPatterns(StoredPatterns(self), rows),
            measurement_domain=self.measurement_domain,
            positions=self.positions[rows],
            probe=self.probe[experiment, :modes],
            object_guess=self.object_guess_of(experiment),
            positions_start=self.positions_start[rows],
            scan_index=self.scan_index[rows],
            bad_pixels=bad if bad.any() else None,
            metadata=self.metadata_of(experiment),
            provenance=self.attributes["provenance"][experiment],
        )


class StoredPatterns(OpenedPatterns):
    """The patterns of a store as a source, in acquisition order."""

    def __init__(self, store: GroupStore) -> None:
        self._store = store
        self._shape, self._dtype = (store.num_patterns, store.N, store.N), store.dtype

    @override
    def read(self, rows: NDArray[np.int64]) -> NDArray[Any]:
        return self._store.diffraction(rows)


def open_group_store(
    path: str | Path,
    *,
    cache_budget: str | int = _CACHE_BUDGET,
    cache_folder: Path | None = None,
    cache_limit: str | int = _CACHE_LIMIT,
) -> GroupStore:
    """Open a store for reading.

    Parameters
    ----------
    path : str or Path
        The store's folder, or any URL that fsspec knows (`s3://bucket/scan.zarr`).
    cache_budget : str or int
        Memory for the chunks that `diffraction` decoded last; loaders have a budget of their own.
    cache_folder : Path, optional
        Folder of this machine that keeps what is fetched from a URL, for later epochs and runs.
    cache_limit : str or int
        Most that the folder may take; what was not used for longest goes first.

    Returns
    -------
    GroupStore
        The store as it is now; its tables are in memory, its patterns where they lie.

    Raises
    ------
    MissingFileError
        If there is no such folder.
    DataContractError
        If it is no complete store, a file is missing or truncated, or a newer version wrote it.
    """
    for _ in range(_TRIES):
        storage = open_location(path)
        storage.keep_in(cache_folder, parse_bytes(cache_limit))
        try:
            return _open(path, storage, cache_budget)
        except (DataContractError, FileNotFoundError):
            folder = storage.folder
            if folder is None or not (storage.is_replaced() or is_being_replaced(folder)):
                raise
            # Another store takes the name just now, and this one's files go.
            time.sleep(_BETWEEN_TRIES_S)
    return _open(path, storage, cache_budget)


def _open(path: str | Path, storage: StoreFiles, cache_budget: str | int) -> GroupStore:
    folder = storage.folder
    if folder is not None and not folder.is_dir():
        advice = ""
        if folder.is_file():
            advice = f": it is a file; make a store of it: ptychostream build {path} STORE"
        raise MissingFileError(f"no group store '{path}'{advice}")
    # At a URL, one listing for all segments; on this machine, only the files in question.
    listing = storage.sizes() if storage.is_remote and storage.can_list else None
    segments = (open_segment(storage, present=listing), *open_chain(storage, listing=listing))
    cache = ChunkCache(parse_bytes(cache_budget))
    return _of_segments(str(storage) if folder is None else folder, segments, cache)


def _open_same(
    path: Path | str,
    contents: list[tuple[Blocks, Files]],
    cache_options: tuple[Path | None, int],
) -> GroupStore:
    """Open the very segments that a store was made of, or refuse."""
    storage = open_location(path)
    storage.keep_in(*cache_options)
    segments: list[Segment] = []
    try:
        for blocks, files in contents:
            folder = f"{SEGMENTS}/{segment_name(*blocks)}"
            segments.append(
                open_segment(storage.child(folder) if segments else storage, blocks=blocks)
            )
            if segments[-1].files != files:
                raise DataContractError("its content has changed")
    except DataContractError as error:
        raise DataContractError(
            f"'{path}' is no longer the store that it was ({error}); open it again"
        ) from error
    return _of_segments(path, tuple(segments), ChunkCache(parse_bytes(_CACHE_BUDGET)))


def _of_segments(path: Path | str, segments: tuple[Segment, ...], cache: ChunkCache) -> GroupStore:
    return GroupStore(path=path, segments=segments, cache=cache, **joined_tables(path, segments))
