"""An open store: patterns by row, groups by parameters, and whether all of it is intact."""

from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, cast

import numpy as np
from numpy.typing import NDArray

from ptychostream.datasets.store.grouping_parameters import (
    GroupingParameters,
    NeighborFunction,
    Policy,
)
from ptychostream.datasets.store.groups import (
    Groups,
    compute_groups,
    keep_grouping,
    load_grouping,
)
from ptychostream.datasets.store.layout import ATTRIBUTES, DIFFRACTION, FORMAT_NAME, FORMAT_VERSION
from ptychostream.datasets.store.manifest import (
    Files,
    check_digests,
    check_sizes,
    read_manifest,
)
from ptychostream.datasets.store.shards import ShardReader
from ptychostream.errors import DataContractError, MissingFileError
from ptychostream.scan import MeasurementDomain, Scan, ScanMetadata


@dataclass(frozen=True, eq=False)
class GroupStore:
    """A complete store, open for reading. Rows are always in acquisition order.

    M is the number of patterns over all E experiments, P of probe modes, N the edge of a
    pattern.

    Attributes
    ----------
    path : Path
        The store's folder.
    positions : (M, 2) float64
        Scan positions (x, y) on the object grid, in pixels.
    positions_start : (M, 2) float64
        Nominal positions.
    experiment_id : (M,) int64
        Experiment of each pattern.
    scan_index : (M,) int64
        Number of each pattern within its own scan.
    energy : (M,) float64
        Sum over each pattern of its counts (or amplitude²).
    probe : (E, P, N, N) complex64
        Illumination of each experiment; missing modes are zero.
    bad_pixels : (E, N, N) bool
        True where the detector can't be trusted.
    attributes : dict
        The store's own record: domain, dose, provenance.
    """

    path: Path
    positions: NDArray[np.float64]
    positions_start: NDArray[np.float64]
    experiment_id: NDArray[np.int64]
    scan_index: NDArray[np.int64]
    energy: NDArray[np.float64]
    probe: NDArray[np.complex64]
    bad_pixels: NDArray[np.bool_]
    attributes: dict[str, Any]
    _storage_row: NDArray[np.int64]
    _array: Any
    _objects: Any
    _files: Files
    _shards: ShardReader | None

    @property
    def num_patterns(self) -> int:
        """Number of patterns, M."""
        return len(self.positions)

    @property
    def num_experiments(self) -> int:
        """Number of experiments, E."""
        return len(self.probe)

    @property
    def N(self) -> int:
        """Edge of a pattern, in pixels."""
        return int(self.probe.shape[-1])

    @property
    def dtype(self) -> np.dtype[Any]:
        """Data type of the stored patterns, as measured."""
        return np.dtype(self._array.dtype)

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
        return -(-self.num_patterns // self.patterns_per_chunk)

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
        """Read the object (H, W) of one experiment.

        Parameters
        ----------
        experiment : int
            Which experiment.

        Returns
        -------
        (H, W) complex64 or None
            None where the source had none.
        """
        if self._objects is None or str(experiment) not in self._objects:
            return None
        return np.asarray(self._objects[str(experiment)][:])

    def metadata_of(self, experiment: int) -> ScanMetadata:
        """Return what is known about one experiment.

        Parameters
        ----------
        experiment : int
            Which experiment.

        Returns
        -------
        ScanMetadata
            None where not known.
        """
        return ScanMetadata(**self.attributes["metadata"][experiment])

    @cached_property
    def storage_rows(self) -> NDArray[np.int64]:
        """(M,) int64: where each acquisition row lies in the array of patterns."""
        return self._storage_row

    def read_chunk(self, chunk: int, out: NDArray[Any]) -> None:
        """Decode one chunk.

        Parameters
        ----------
        chunk : int
            Which chunk of `patterns_per_chunk` patterns, in storage order.
        out : (patterns_per_chunk, N, N)
            Receives the patterns, as measured; the last chunk may leave its end as it is.

        Raises
        ------
        DataContractError
            If the chunk is damaged or missing; the message names it.
        """
        if self._shards is not None:
            self._shards.read_into(chunk, out)
            return
        start = chunk * self.patterns_per_chunk
        stop = min(start + self.patterns_per_chunk, self.num_patterns)
        try:
            out[: stop - start] = self._array[start:stop]
        except Exception as error:  # zarr's codecs raise many kinds
            raise DataContractError(
                f"store '{self.path}' is damaged: chunk {chunk} of the patterns can't be decoded "
                f"({error}); run `ptychostream verify`, then copy or build the store again"
            ) from error

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
            If a row is not in the store.
        DataContractError
            If a chunk is damaged.
        """
        wanted = np.asarray(rows, dtype=np.int64).ravel()
        if len(wanted) and (wanted.min() < 0 or wanted.max() >= self.num_patterns):
            raise IndexError(f"rows must lie in 0 … {self.num_patterns - 1}, got {wanted}")
        out = np.empty((len(wanted), self.N, self.N), self.dtype)
        chunk, inside = np.divmod(self.storage_rows[wanted], self.patterns_per_chunk)
        decoded = np.empty((self.patterns_per_chunk, self.N, self.N), self.dtype)
        for number in np.unique(chunk):
            here = chunk == number
            self.read_chunk(int(number), decoded)
            out[here] = decoded[inside[here]]
        return out

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
        witnesses: int = 0,
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
            Nearest neighbours K that a group is drawn from, besides its seed.
        num_groups : int, optional
            Positions that seed groups, in each experiment; None is every one. With
            `enable_oversampling`, groups in each experiment.
        groups_per_position : int
            Groups drawn around each seed.
        neighbor_function : str
            `nearest` draws from the K nearest positions; `min_distance` from the K nearest that
            lie between two distances; `four_quadrant` takes one in each quadrant.
        sequential : bool
            Whether the first positions are the seeds, instead of a draw.
        seed : int
            Seed of the draws.
        witnesses : int
            Members drawn beyond C, the last columns of the table.
        n_subsample : int, optional
            Patterns drawn from each experiment before grouping; None is all.
        enable_oversampling : bool
            Whether more groups than positions may be drawn, all of them different.
        neighbor_pool_size : int, optional
            Nearest neighbours that oversampling combines; None is `neighbor_count`.
        min_neighbor_distance : float
            Least distance between seed and neighbour, in pixels (`min_distance`).
        max_neighbor_distance : float, optional
            Largest distance between seed and neighbour, in pixels (`min_distance`).
        policy : str
            `default` keeps the seed in its group; `upstream` draws, number for number, what the
            existing backend draws for this seed.

        Returns
        -------
        Groups
            The table.

        Raises
        ------
        ConfigurationError
            If an option is unknown, or does nothing beside the others.
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
            witnesses=witnesses,
            n_subsample=n_subsample,
            enable_oversampling=enable_oversampling,
            neighbor_pool_size=neighbor_pool_size,
            min_neighbor_distance=min_neighbor_distance,
            max_neighbor_distance=max_neighbor_distance,
            policy=policy,
        )
        return self.kept_groups(parameters)

    def kept_groups(self, parameters: GroupingParameters) -> Groups:
        """Find a grouping: a kept one, else it is computed and kept.

        Parameters
        ----------
        parameters : GroupingParameters
            Which grouping.

        Returns
        -------
        Groups
            The table.
        """
        kept = load_grouping(self.path, parameters)
        if kept is not None:
            return kept
        computed = compute_groups(self.positions, self.experiment_id, parameters)
        keep_grouping(self.path, computed)
        return computed

    def verify(self) -> None:
        """Read every file and compare it with the manifest.

        Raises
        ------
        DataContractError
            If a file is missing or changed in a single bit; the damaged chunk is named.
        """
        check_sizes(self.path, self._files)
        changed = check_digests(self.path, self._files)
        if changed:
            places = "; ".join(self._locate(name) for name in changed)
            raise DataContractError(
                f"store '{self.path}' is damaged: {places}; copy or build the store again"
            )

    def scan(self, experiment: int = 0) -> Scan:
        """Return one experiment as a scan, in acquisition order; patterns stay in the store.

        Parameters
        ----------
        experiment : int
            Which experiment.

        Returns
        -------
        Scan
            What the store was built from.
        """
        from ptychostream.datasets.store.stored_patterns import StoredPatterns

        rows = np.flatnonzero(self.experiment_id == experiment)
        modes = self.attributes["probe_modes"][experiment]
        bad = self.bad_pixels[experiment]
        return Scan(
            name=f"'{self.path}'",
            patterns=StoredPatterns(self, rows),
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

    def _locate(self, name: str) -> str:
        if not name.startswith(f"{DIFFRACTION}/c/"):
            return f"file '{name}' has changed"
        shard = int(name.split("/")[2])
        per_shard = self._array.shards[0] // self.patterns_per_chunk
        first = shard * per_shard
        decoded = np.empty((self.patterns_per_chunk, self.N, self.N), self.dtype)
        for chunk in range(first, min(first + per_shard, self.num_chunks)):
            try:
                self.read_chunk(chunk, decoded)
            except DataContractError:
                return f"chunk {chunk} in file '{name}' has changed"
        return f"the shard index of file '{name}' has changed"


def open_group_store(path: str | Path) -> GroupStore:
    """Open a store for reading.

    Parameters
    ----------
    path : str or Path
        The store's folder.

    Returns
    -------
    GroupStore
        The store; its tables are in memory, its patterns on disk.

    Raises
    ------
    MissingFileError
        If there is no such folder.
    DataContractError
        If it is no complete store, a file is missing or truncated, or a newer version wrote it.
    """
    import zarr

    path = Path(path)
    if not path.is_dir():
        raise MissingFileError(f"no group store '{path}'")
    files = read_manifest(path)
    check_sizes(path, files)
    # Tables are read whole now, so they can be checked whole; patterns when they are read.
    tables_only = {n: f for n, f in files.items() if not n.startswith(f"{DIFFRACTION}/c/")}
    changed = check_digests(path, tables_only)
    if changed:
        raise DataContractError(
            f"store '{path}' is damaged: {', '.join(map(repr, changed))} changed; copy or build "
            "the store again"
        )
    try:
        root = zarr.open_group(path, mode="r")
        attributes = cast("dict[str, Any]", root.attrs.asdict()[ATTRIBUTES])
        _check_version(path, attributes)
        tables: dict[str, Any] = {
            name: np.asarray(root[name][:])  # type: ignore[index]
            for name in (
                "positions",
                "positions_start",
                "experiment_id",
                "scan_index",
                "energy",
                "probe",
                "bad_pixels",
            )
        }
        order = np.asarray(root["storage_order"][:])  # type: ignore[index]
        objects = root.get("object_guess", None)
        patterns = root[DIFFRACTION]
    except Exception as error:  # zarr raises many kinds on damaged metadata
        if isinstance(error, DataContractError):
            raise
        raise DataContractError(
            f"store '{path}' is damaged: {error}; run `ptychostream verify`"
        ) from error
    storage_row = np.empty_like(order)
    storage_row[order] = np.arange(len(order))
    return GroupStore(
        path=path,
        attributes=attributes,
        _storage_row=storage_row,
        _array=patterns,
        _objects=objects,
        _files=files,
        _shards=ShardReader.for_array(path, patterns),
        **tables,
    )


def _check_version(path: Path, attributes: dict[str, Any]) -> None:
    major, minor = attributes["version"]
    if attributes["format"] != FORMAT_NAME or major > FORMAT_VERSION[0]:
        raise DataContractError(
            f"store '{path}' has format version {major}.{minor}; this version reads "
            f"{FORMAT_VERSION[0]}.x: update ptychostream"
        )
