"""One ptychographic scan: its patterns are read when they are needed, its arrays checked once."""

from dataclasses import asdict, dataclass, field, replace
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from ptychostream.errors import DataContractError
from ptychostream.geometry import check_extent
from ptychostream.pattern_sources import ArrayPatterns, PatternSource, SubsetPatterns

__all__ = [
    "ArrayPatterns",
    "MeasurementDomain",
    "PatternSource",
    "Scan",
    "ScanMetadata",
    "SubsetPatterns",
    "to_amplitude",
    "to_counts",
]

MeasurementDomain = Literal["counts", "amplitude"]


def to_amplitude(
    patterns: NDArray[Any],
    domain: MeasurementDomain,
    bad_pixels: NDArray[np.bool_] | None = None,
    *,
    out: NDArray[np.float32] | None = None,
) -> NDArray[np.float32]:
    """Return patterns as amplitudes: the square roots of counts.

    Parameters
    ----------
    patterns : (..., N, N)
        As stored, in counts or amplitude.
    bad_pixels : bool, optional
        True where the detector can't be trusted, of a shape that broadcasts to `patterns`; such
        pixels become zero.
    out : (..., N, N) float32, optional
        Receives the amplitudes of counts.

    Returns
    -------
    (..., N, N) float32
        `patterns` themselves where these are float32 amplitudes.
    """
    if bad_pixels is not None:
        # Before the root: dead pixels may be marked by -1.
        patterns = np.where(bad_pixels, patterns.dtype.type(0), patterns)
    if domain == "counts":
        return np.sqrt(patterns, out=out, dtype=np.float32)
    return patterns.astype(np.float32, copy=False)


def to_counts(
    patterns: NDArray[Any], domain: MeasurementDomain, *, whole: bool = False
) -> NDArray[Any]:
    """Return patterns as counts: the squares of amplitudes.

    Parameters
    ----------
    patterns : (..., N, N)
        As stored, in counts or amplitude.
    whole : bool
        Whether the squares of amplitudes are known to be whole numbers, but for rounding.

    Returns
    -------
    (..., N, N)
        `patterns` themselves where these are counts.

    Examples
    --------
    >>> to_counts(np.float32([[[1.4142135, 3.0]]]), "amplitude", whole=True)
    array([[[2., 9.]]], dtype=float32)
    """
    if domain == "counts":
        return patterns
    squares = np.square(patterns, dtype=np.float64)
    return (np.rint(squares) if whole else squares).astype(np.float32)


@dataclass(frozen=True, kw_only=True)
class ScanMetadata:
    """What is known about the experiment; None where it is not.

    Attributes
    ----------
    energy_eV : float, optional
        Photon energy.
    detector_distance_m : float, optional
        Sample to detector.
    detector_pixel_size_m : float, optional
        Edge of a detector pixel.
    object_pixel_size_m : float, optional
        Edge of an object pixel.
    nphotons : float, optional
        Mean photons per pattern of a simulation.
    """

    energy_eV: float | None = None
    detector_distance_m: float | None = None
    detector_pixel_size_m: float | None = None
    object_pixel_size_m: float | None = None
    nphotons: float | None = None


@dataclass(frozen=True, eq=False, kw_only=True)
class Scan:
    """Patterns, scan positions, probe and, if known, the object.

    Checked on construction, so that the code downstream need not check again. M is the number
    of scan positions, P of probe modes, and N the edge of a pattern.

    Attributes
    ----------
    name : str
        Name of the scan in messages.
    patterns : PatternSource
        (M, N, N) measured patterns, zero frequency centred; read in blocks.
    measurement_domain : str
        Whether the patterns are `counts` or `amplitude` (√counts).
    positions : (M, 2) float64
        Scan positions (x, y) on the object grid, in pixels.
    probe : (P, N, N) complex64
        Illumination, one entry per incoherent mode.
    object_guess : (H, W) complex64, optional
        Known or estimated object.
    positions_start : (M, 2) float64, optional
        Nominal positions, before any correction; `positions` where None.
    scan_index : (M,) int64, optional
        The pattern's number within its own scan; zeros where None.
    bad_pixels : (N, N) bool, optional
        True where the detector cannot be trusted.
    metadata : ScanMetadata
        What is known about the experiment.
    provenance : dict
        Where the scan comes from: JSON values.
    file_rows : (M,) int64, optional
        Each pattern's number in its file, where some were left out; 0, 1, … where None.
    warnings : tuple of str
        What is doubtful about the scan, in sentences.
    """

    name: str
    patterns: PatternSource
    measurement_domain: MeasurementDomain
    positions: NDArray[np.float64]
    probe: NDArray[np.complex64]
    object_guess: NDArray[np.complex64] | None = None
    positions_start: NDArray[np.float64] | None = None
    scan_index: NDArray[np.int64] | None = None
    bad_pixels: NDArray[np.bool_] | None = None
    metadata: ScanMetadata = field(default_factory=ScanMetadata)
    provenance: dict[str, Any] = field(default_factory=dict)
    file_rows: NDArray[np.int64] | None = None
    warnings: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        """Check that the arrays belong together."""
        shape = self.patterns.shape
        if len(shape) != 3 or shape[1] != shape[2]:
            advice = "crop or pad the patterns to squares"
            if len(shape) == 3 and shape[0] == shape[1] and shape[2] == len(self.positions):
                advice = "move the last axis to the front: np.moveaxis(diff3d, -1, 0)"
            self._refuse(f"the patterns are {tuple(shape)}, expected (M, N, N); {advice}")
        count, edge = shape[0], shape[1]
        if count == 0:
            self._refuse("there are no patterns")
        if edge % 2:
            self._refuse(
                f"patterns are {edge} px wide; an even number is needed: crop by one pixel"
            )
        if self.patterns.dtype.kind not in "uif":
            self._refuse(f"the patterns are {self.patterns.dtype}, expected real numbers")
        if self.measurement_domain not in ("counts", "amplitude"):
            self._refuse(
                f"measurement_domain={self.measurement_domain!r} must be 'counts' or 'amplitude'"
            )
        for label, array in (
            ("positions", self.positions),
            ("positions_start", self.positions_start),
        ):
            self._check_positions(label, array, count)
        self._check_probe(edge)
        if self.object_guess is not None and (
            self.object_guess.ndim != 2 or not np.isfinite(self.object_guess).all()
        ):
            self._refuse(
                f"the object guess is {self.object_guess.shape}, expected (H, W) finite numbers"
            )
        if self.scan_index is not None and self.scan_index.shape != (count,):
            self._refuse(f"scan_index is {self.scan_index.shape}, expected ({count},)")
        if self.bad_pixels is not None and self.bad_pixels.shape != (edge, edge):
            self._refuse(f"bad_pixels is {self.bad_pixels.shape}, expected ({edge}, {edge})")
        for label, value in asdict(self.metadata).items():
            if value is not None and not np.isfinite(value):
                self._refuse(f"{label} is {value}, expected a finite number, or none where unknown")
        check_extent(self.positions, edge, name=self.name)

    @property
    def num_patterns(self) -> int:
        """Number of scan positions, M."""
        return self.patterns.shape[0]

    @property
    def N(self) -> int:
        """Edge of a pattern, in pixels."""
        return self.patterns.shape[1]

    def select(self, rows: NDArray[np.int64]) -> "Scan":
        """Return the scan with some of its positions and patterns.

        Parameters
        ----------
        rows : (M,) int64
            Rows to keep, in this order.

        Returns
        -------
        Scan
            A scan that reads its patterns from the same source.
        """
        rows = np.asarray(rows, dtype=np.int64)
        return replace(
            self,
            patterns=SubsetPatterns(self.patterns, rows),
            positions=self.positions[rows],
            positions_start=None if self.positions_start is None else self.positions_start[rows],
            scan_index=None if self.scan_index is None else self.scan_index[rows],
            file_rows=rows if self.file_rows is None else self.file_rows[rows],
        )

    def _check_positions(self, label: str, array: NDArray[np.float64] | None, count: int) -> None:
        if array is None:
            return
        if array.ndim != 2 or array.shape[1] != 2:
            self._refuse(f"{label} is {array.shape}, expected (M, 2)")
        if len(array) != count:
            self._refuse(f"{count} diffraction patterns but {len(array)} scan positions ({label})")
        wrong = np.flatnonzero(~np.isfinite(array).all(axis=1))
        if len(wrong):
            self._refuse(
                f"{len(wrong)} of {label} are not finite, the first in row {wrong[0]}: "
                f"{array[wrong[0]].tolist()}; remove these positions and their patterns"
            )

    def _check_probe(self, edge: int) -> None:
        if self.probe.ndim != 3 or self.probe.shape[-2:] != (edge, edge):
            self._refuse(
                f"the probe is {self.probe.shape} but patterns are {edge} x {edge} px; "
                f"expected (P, {edge}, {edge})"
            )
        if not np.isfinite(self.probe).all() or not np.abs(self.probe).any():
            self._refuse("the probe has NaN or infinite values, or is zero everywhere")

    def _refuse(self, message: str) -> None:
        raise DataContractError(f"{self.name}: {message}")
