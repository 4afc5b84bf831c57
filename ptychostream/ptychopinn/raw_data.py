"""`RawDataTorch`: a scan or a store with the names that PtychoPINN's callers know."""

import zipfile
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from ptychostream import legacy
from ptychostream.config import TrainingConfig
from ptychostream.datasets.grouping.draw import draw_patterns
from ptychostream.datasets.grouping.parameters import GroupingParameters, Policy
from ptychostream.datasets.sources import read_scan
from ptychostream.datasets.sources.amplitude import AmplitudePatterns
from ptychostream.datasets.sources.npz import write_npz
from ptychostream.datasets.sources.npz_members import NpzMembers
from ptychostream.datasets.store.group_store import GroupStore
from ptychostream.errors import DataContractError
from ptychostream.files import whole_file
from ptychostream.ptychopinn.given_domain import GivenDomain, settled_domain
from ptychostream.ptychopinn.grouped import Labels, choose_groups, gather
from ptychostream.scan import ArrayPatterns, MeasurementDomain, Scan


class RawDataTorch:
    """One scan as PtychoPINN's callers know it; patterns are read when they are asked for.

    Both of PtychoPINN's constructors work: that of its TensorFlow package, below, and that of its
    PyTorch port, `RawDataTorch(xcoords, ycoords, diff3d, probeGuess, scan_index, objectGuess,
    config)`. The third argument tells them apart: a stack of patterns means the latter.

    Parameters
    ----------
    xcoords, ycoords : (M,) float64
        Scan positions, in object pixels.
    xcoords_start, ycoords_start : (M,) float64, optional
        Nominal positions; the positions themselves where None.
    diff3d : (M, N, N)
        Measured patterns, zero frequency centred.
    probeGuess : (N, N), (N, N, 1) or (P, N, N) complex64
        Illumination.
    scan_index : (M,) int, optional
        Number of each pattern within its scan; zeros where None.
    objectGuess : (H, W) complex64, optional
        Known or estimated object.
    Y : (M, N, N) complex64, optional
        True patches, where they are known without an object.
    config : TrainingConfig, optional
        Written into the legacy dictionary, as PtychoPINN's PyTorch port does.
    measurement_domain : str, optional
        Whether `diff3d` holds `amplitude` or `counts` (`normalized_amplitude` and
        `count_intensity` mean the same); None takes integers and other values in steps for
        counts, with a warning, and all others for amplitudes.

    Raises
    ------
    DataContractError
        If there are no patterns or no probe, the arrays do not fit together, or the domain is
        unknown.
    """

    def __init__(
        self,
        xcoords: Any,
        ycoords: Any,
        xcoords_start: Any = None,
        ycoords_start: Any = None,
        diff3d: Any = None,
        probeGuess: Any = None,
        scan_index: Any = None,
        objectGuess: Any = None,
        Y: NDArray[Any] | None = None,
        *,
        config: TrainingConfig | None = None,
        measurement_domain: GivenDomain | None = None,
    ) -> None:
        if np.ndim(xcoords_start) == 3:
            # The order of the PyTorch port, which has no nominal positions.
            config = scan_index if config is None else config
            diff3d, probeGuess, scan_index, objectGuess, xcoords_start, ycoords_start = (
                *(xcoords_start, ycoords_start, diff3d, probeGuess),
                *(None, None),
            )
        missing = [n for n, v in (("diff3d", diff3d), ("probeGuess", probeGuess)) if v is None]
        if missing:
            raise DataContractError(f"RawDataTorch needs {' and '.join(missing)}")
        if config is not None:
            legacy.update_legacy_dict(legacy.params.cfg, config)
        x, y = (np.asarray(part, dtype=np.float64).ravel() for part in (xcoords, ycoords))
        positions = _pair("xcoords", x, "ycoords", y)
        start = None
        if xcoords_start is not None and ycoords_start is not None:
            start = _pair(
                "xcoords_start",
                np.asarray(xcoords_start, dtype=np.float64).ravel(),
                "ycoords_start",
                np.asarray(ycoords_start, dtype=np.float64).ravel(),
            )
        probe = np.asarray(probeGuess, dtype=np.complex64)
        if probe.ndim == 3 and probe.shape[-1] == 1:
            probe = probe[..., 0]
        patterns = ArrayPatterns(np.asarray(diff3d))
        probe = probe[None] if probe.ndim == 2 else probe
        scan = Scan(
            name="raw data",
            patterns=patterns,
            measurement_domain=settled_domain(measurement_domain, patterns, probe),
            positions=positions,
            probe=probe,
            object_guess=None if objectGuess is None else np.asarray(objectGuess, np.complex64),
            positions_start=start,
            scan_index=None if scan_index is None else np.asarray(scan_index, np.int64).ravel(),
        )
        self._take(scan, Y=Y)

    def _take(
        self,
        scan: Scan,
        *,
        Y: NDArray[Any] | None = None,
        store: GroupStore | None = None,
        sample_indices: NDArray[np.int64] | None = None,
    ) -> None:
        if Y is not None and Y.shape != scan.patterns.shape:
            raise DataContractError(
                f"{scan.name}: Y is {Y.shape} but the patterns are {scan.patterns.shape}"
            )
        self.scan, self.store, self.sample_indices, self.Y = scan, store, sample_indices, Y
        self.amplitude = AmplitudePatterns(scan.patterns, scan.measurement_domain, scan.bad_pixels)

    @classmethod
    def from_scan(cls, scan: Scan) -> "RawDataTorch":
        """Take any scan.

        Parameters
        ----------
        scan : Scan
            In memory or on disk.

        Returns
        -------
        RawDataTorch
            The same scan, nothing copied.
        """
        made = cls.__new__(cls)
        made._take(scan)
        return made

    @classmethod
    def from_store(cls, store: GroupStore, experiment: int = 0) -> "RawDataTorch":
        """Take one experiment of a store; patterns stay in it.

        Parameters
        ----------
        store : GroupStore
            The store.
        experiment : int
            Which experiment.

        Returns
        -------
        RawDataTorch
            Rows in acquisition order, counted within the experiment.
        """
        made = cls.__new__(cls)
        made._take(store.scan(experiment), store=store if store.num_experiments == 1 else None)
        return made

    @classmethod
    def from_file(
        cls, path: str | Path, measurement_domain: MeasurementDomain | None = None
    ) -> "RawDataTorch":
        """Read a scan file of any known format; patterns stay on disk.

        Parameters
        ----------
        path : str or Path
            The file.
        measurement_domain : str, optional
            `counts` or `amplitude`, where the file does not say it or says it wrongly.

        Returns
        -------
        RawDataTorch
            The scan.
        """
        scan = read_scan(path, measurement_domain=measurement_domain)
        made = cls.__new__(cls)
        labels = None
        if scan.provenance.get("format") == "npz":
            members = NpzMembers(Path(path))
            for name in ("Y", "ground_truth_patches"):
                if name in members and members.shape(name) == scan.patterns.shape:
                    labels = members.read(name).astype(np.complex64)
                    break
        made._take(scan, Y=labels)
        return made

    @classmethod
    def from_files(
        cls, train_path: str | Path, test_path: str | Path
    ) -> tuple["RawDataTorch", "RawDataTorch"]:
        """Read a training and a test scan.

        Parameters
        ----------
        train_path, test_path : str or Path
            The files.

        Returns
        -------
        train : RawDataTorch
            The first.
        test : RawDataTorch
            The second.
        """
        return cls.from_file(train_path), cls.from_file(test_path)

    @classmethod
    def from_coords_without_pc(
        cls,
        xcoords: Any,
        ycoords: Any,
        diff3d: NDArray[Any],
        probeGuess: NDArray[Any],
        scan_index: Any = None,
        objectGuess: NDArray[Any] | None = None,
        Y: NDArray[Any] | None = None,
        *,
        measurement_domain: GivenDomain | None = None,
    ) -> "RawDataTorch":
        """Take arrays whose positions were not corrected: nominal ones are the same.

        Parameters
        ----------
        xcoords, ycoords : (M,) float64
            Scan positions, in object pixels.
        diff3d : (M, N, N)
            Measured patterns, zero frequency centred.
        probeGuess : (N, N), (N, N, 1) or (P, N, N) complex64
            Illumination.
        scan_index : (M,) int, optional
            Number of each pattern within its scan.
        objectGuess : (H, W) complex64, optional
            Known or estimated object.
        Y : (M, N, N) complex64, optional
            True patches.
        measurement_domain : str, optional
            As the constructor's.

        Returns
        -------
        RawDataTorch
            The scan.
        """
        return cls(
            *(xcoords, ycoords, None, None, diff3d, probeGuess, scan_index, objectGuess, Y),
            measurement_domain=measurement_domain,
        )

    def __len__(self) -> int:
        return self.scan.num_patterns

    @property
    def xcoords(self) -> NDArray[np.float64]:
        """(M,) float64 columns of the positions, in pixels."""
        return self.scan.positions[:, 0]

    @property
    def ycoords(self) -> NDArray[np.float64]:
        """(M,) float64 rows of the positions, in pixels."""
        return self.scan.positions[:, 1]

    @property
    def xcoords_start(self) -> NDArray[np.float64]:
        """(M,) float64 columns of the nominal positions, in pixels."""
        return self.positions_start[:, 0]

    @property
    def ycoords_start(self) -> NDArray[np.float64]:
        """(M,) float64 rows of the nominal positions, in pixels."""
        return self.positions_start[:, 1]

    @property
    def positions_start(self) -> NDArray[np.float64]:
        """(M, 2) float64 nominal positions (x, y), in pixels."""
        start = self.scan.positions_start
        return self.scan.positions if start is None else start

    @property
    def probeGuess(self) -> NDArray[np.complex64]:
        """(N, N), or (P, N, N) complex64 where there are several modes."""
        probe = self.scan.probe
        return probe[0] if len(probe) == 1 else probe

    @property
    def objectGuess(self) -> NDArray[np.complex64] | None:
        """(H, W) complex64, or None."""
        return self.scan.object_guess

    @property
    def scan_index(self) -> NDArray[np.int64]:
        """(M,) int64 number of each pattern within its scan."""
        index = self.scan.scan_index
        return np.zeros(len(self), np.int64) if index is None else index

    @property
    def diff3d(self) -> NDArray[np.float32]:
        """(M, N, N) float32: all amplitudes, read into memory now."""
        return self.amplitude.read(np.arange(len(self)))

    def as_arrays(self) -> dict[str, Any]:
        """Read all of the scan into memory, under PtychoPINN's names.

        Returns
        -------
        dict
            Arguments of a raw data class: coordinates, `diff3d` amplitudes, `probeGuess`,
            `scan_index`, `objectGuess` and `Y`.
        """
        names = (
            *("xcoords", "ycoords", "xcoords_start", "ycoords_start", "diff3d"),
            *("probeGuess", "scan_index", "objectGuess", "Y"),
        )
        return {name: getattr(self, name) for name in names}

    def subsample(self, number: int, seed: int | None = None) -> "RawDataTorch":
        """Draw patterns, with the numbers that PtychoPINN draws for a seed.

        Parameters
        ----------
        number : int
            Patterns to keep; all, where there are no more.
        seed : int, optional
            Decides the draw.

        Returns
        -------
        RawDataTorch
            Acquisition order is kept; `sample_indices` says which rows they were.
        """
        if number >= len(self):
            return self
        rows = draw_patterns(len(self), number, seed)
        scan = self.scan
        picked = replace(
            scan,
            patterns=ArrayPatterns(self.amplitude.read(rows)),
            measurement_domain="amplitude",
            positions=scan.positions[rows],
            positions_start=self.positions_start[rows],
            scan_index=self.scan_index[rows],
        )
        made = type(self).__new__(type(self))
        labels = None if self.Y is None else self.Y[rows]
        made._take(picked, Y=labels, sample_indices=rows)
        return made

    def to_file(self, path: str | Path) -> None:
        """Write the scan as NPZ, with amplitudes, for any reader of that contract.

        Parameters
        ----------
        path : str or Path
            The file; it appears under its name when it is complete.
        """
        scan = replace(
            self.scan,
            patterns=self.amplitude,
            measurement_domain="amplitude",
            positions_start=self.positions_start,
            scan_index=self.scan_index,
        )
        with whole_file(Path(path)) as partial:
            write_npz(scan, partial)
            if self.Y is None:
                return
            with (
                zipfile.ZipFile(partial, "a", zipfile.ZIP_DEFLATED) as archive,
                archive.open("Y.npy", "w", force_zip64=True) as member,
            ):
                np.lib.format.write_array(member, np.asarray(self.Y), allow_pickle=False)

    def generate_grouped_data(
        self,
        N: int,
        K: int = 4,
        nsamples: int = 1,
        dataset_path: str | Path | None = None,
        seed: int | None = None,
        sequential_sampling: bool = False,
        gridsize: int | None = None,
        enable_oversampling: bool = False,
        neighbor_pool_size: int | None = None,
        *,
        policy: Policy = "default",
        labels: Literal["true", "mirrored"] | None = None,
    ) -> dict[str, Any]:
        """Draw groups and gather them as PtychoPINN's dictionary, all in memory.

        Parameters
        ----------
        N : int
            Edge of a pattern; must be that of the data.
        K : int
            Nearest neighbours that a group is drawn from.
        nsamples : int
            Groups.
        dataset_path : str or Path, optional
            Name of the data in messages.
        seed : int, optional
            Decides the draw; None takes a fresh one (`default`), or goes on from the state of
            NumPy's global generator (`upstream`).
        sequential_sampling : bool
            Whether groups are drawn around the first positions, instead of drawn ones.
        gridsize : int, optional
            Patterns along one side of a group; None takes the legacy dictionary's.
        enable_oversampling : bool
            Whether more groups than positions may be drawn.
        neighbor_pool_size : int, optional
            Neighbours that oversampling combines; None is K.
        policy : str
            `default` keeps the position around which a group is drawn in it; `upstream` draws,
            number for number, what PtychoPINN draws.
        labels : str, optional
            `true` cuts labels at the true positions, `mirrored` at those mirrored in the group's
            centre, as PtychoPINN does; None is mirrored for `upstream` only.

        Returns
        -------
        dict
            `diffraction`, `Y`, `coords_offsets`, `coords_relative`, `coords_start_offsets`,
            `coords_start_relative`, `coords_nn`, `coords_start_nn`, `nn_indices`, `objectGuess`,
            `X_full`, and `sample_indices` after `subsample`.

        Raises
        ------
        DataContractError
            If N is not that of the data, or groups can't be filled.
        """
        name = self.scan.name if dataset_path is None else f"'{dataset_path}'"
        if self.scan.N != N:
            raise DataContractError(f"{name} has patterns of {self.scan.N} px but N={N}")
        if gridsize is None:
            gridsize = int(legacy.params.get("gridsize"))
        parameters = GroupingParameters(
            gridsize=gridsize,
            neighbor_count=K,
            num_groups=nsamples,
            sequential=sequential_sampling,
            enable_oversampling=enable_oversampling,
            # PtychoPINN's callers name a pool whether they oversample or not.
            neighbor_pool_size=neighbor_pool_size if enable_oversampling else None,
            policy=policy,
        )
        try:
            nn_indices = choose_groups(self.scan.positions, parameters, seed, self.store)
        except DataContractError as error:
            raise DataContractError(f"{name}: {error}") from error
        where: Labels = labels or ("mirrored" if policy == "upstream" else "true")
        return gather(self, nn_indices, labels=where)


def _pair(
    x_name: str, x: NDArray[np.float64], y_name: str, y: NDArray[np.float64]
) -> NDArray[np.float64]:
    if len(x) != len(y):
        raise DataContractError(f"'{x_name}' has {len(x)} values but '{y_name}' has {len(y)}")
    return np.stack([x, y], axis=1)
