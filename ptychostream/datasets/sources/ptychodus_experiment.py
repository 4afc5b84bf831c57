"""Read a folder with which ptychodus starts: `diffraction.h5` and `product.h5`."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import h5py
import numpy as np
from numpy.typing import NDArray

from ptychostream.datasets.sources.ptychodus_training import Hdf5Patterns
from ptychostream.errors import DataContractError
from ptychostream.scan import MeasurementDomain, PatternSource, Scan, ScanMetadata

_FILES = ("diffraction.h5", "product.h5")
_HALF_PIXEL = 0.5


class ChosenPatterns:
    """Some patterns of a source, in an order of their own.

    Parameters
    ----------
    source : PatternSource
        All patterns.
    rows : (M,) int64
        Which of them.
    """

    random_access = False

    def __init__(self, source: PatternSource, rows: NDArray[np.int64]) -> None:
        self._source, self._rows = source, rows

    @property
    def shape(self) -> tuple[int, int, int]:
        """M, N, N."""
        _, height, width = self._source.shape
        return len(self._rows), height, width

    @property
    def dtype(self) -> np.dtype[Any]:
        """Data type as measured."""
        return self._source.dtype

    def read(self, rows: NDArray[np.int64]) -> NDArray[Any]:
        """Return the patterns of these rows, in this order.

        Parameters
        ----------
        rows : (B,) int64
            Which patterns.

        Returns
        -------
        (B, N, N)
            The patterns.
        """
        return self._source.read(self._rows[np.asarray(rows)])

    def blocks(self, length: int) -> Iterator[NDArray[Any]]:
        """Iterate over all patterns in acquisition order.

        Parameters
        ----------
        length : int
            Patterns per block.

        Yields
        ------
        (B, N, N)
            A block; the last may be shorter.
        """
        for start in range(0, len(self._rows), length):
            yield self._source.read(self._rows[start : start + length])


def is_ptychodus_experiment(path: Path) -> bool:
    """Say whether a folder holds patterns and product of ptychodus.

    Parameters
    ----------
    path : Path
        The folder.

    Returns
    -------
    bool
        True where both files are there.
    """
    return all((path / name).is_file() for name in _FILES)


def read_ptychodus_experiment(
    path: Path, measurement_domain: MeasurementDomain | None = None
) -> Scan:
    """Read ptychodus's patterns and product; the patterns stay on disk.

    Patterns and positions are paired by their indices; a position is the mean of all with the
    same index, and patterns without a position are left out.

    Parameters
    ----------
    path : Path
        The folder.
    measurement_domain : str, optional
        ptychodus writes counts; `amplitude` overrides that.

    Returns
    -------
    Scan
        The scan, checked.

    Raises
    ------
    DataContractError
        If a file is damaged or lacks a dataset, or no pattern has a position.
    """
    try:
        with h5py.File(path / _FILES[0], "r") as file:
            stored = file["patterns"]
            source = Hdf5Patterns(path / _FILES[0], "patterns", stored.shape, stored.dtype)
            pattern_index = np.asarray(file["indexes"][:], dtype=np.int64)
            bad = np.asarray(file["bad_pixels"][:], dtype=bool) if "bad_pixels" in file else None
            detector_pixel = float(stored.attrs["detector_pixel_width_m"])
            origin = json.loads(file.attrs.get("provenance", "{}"))
        with h5py.File(path / _FILES[1], "r") as file:
            positions = _positions(file)
            position_index = np.asarray(file["probe_position_indexes"][:], dtype=np.int64)
            probe = np.asarray(file["probe"][()], dtype=np.complex64)
            guess = np.asarray(file["object"][()], dtype=np.complex64)
            metadata = ScanMetadata(
                energy_eV=float(
                    file.attrs.get("photon_energy_eV", file.attrs.get("probe_energy_eV", np.nan))
                ),
                detector_distance_m=float(file.attrs["detector_object_distance_m"]),
                detector_pixel_size_m=detector_pixel,
                object_pixel_size_m=float(file["object"].attrs["pixel_width_m"]),
            )
    except (OSError, KeyError, TypeError, ValueError) as error:
        raise DataContractError(f"'{path}' can't be read: {error}; export it again") from error
    if guess.ndim == 3 and len(guess) > 1:
        raise DataContractError(
            f"'{path}': the object has {len(guess)} layers; only thin objects can be read"
        )
    paired, first = np.unique(position_index, return_inverse=True)
    sums = np.zeros((len(paired), 2))
    np.add.at(sums, first, positions)
    mean = sums / np.bincount(first)[:, None]
    _, rows, places = np.intersect1d(pattern_index, paired, return_indices=True)
    if not len(rows):
        raise DataContractError(f"'{path}': no pattern has the index of a position")
    whole = np.array_equal(rows, np.arange(source.shape[0]))
    return Scan(
        name=f"'{path}'",
        patterns=source if whole else ChosenPatterns(source, rows),
        measurement_domain=measurement_domain or "counts",
        positions=mean[places],
        probe=probe[0] if probe.ndim == 4 else probe.reshape(-1, *probe.shape[-2:]),
        object_guess=guess.reshape(guess.shape[-2:]),
        bad_pixels=bad,
        metadata=metadata,
        provenance={**origin, "format": "ptychodus experiment", "file": path.name},
    )


def _positions(file: Any) -> NDArray[np.float64]:
    target = file["object"]
    axes = []
    for axis, size, length in (
        ("x", "width", target.shape[-1]),
        ("y", "height", target.shape[-2]),
    ):
        metres = np.asarray(file[f"probe_position_{axis}_m"][:], dtype=np.float64)
        centred = (metres - target.attrs[f"center_{axis}_m"]) / target.attrs[f"pixel_{size}_m"]
        axes.append(centred + (length - 1) / 2 + _HALF_PIXEL)
    return np.stack(axes, axis=1)
