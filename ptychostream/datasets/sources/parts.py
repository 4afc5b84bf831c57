"""What a file holds of a scan, before anything is joined, converted or checked."""

from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from ptychostream.datasets.sources.preprocess import Orientation
from ptychostream.scan import MeasurementDomain, PatternSource, Scan, ScanMetadata


@dataclass(frozen=True, eq=False, kw_only=True)
class ScanParts:
    """What a file holds of a scan; None where it holds nothing of the kind.

    `name`: says in messages which file it is.
    `patterns`: (M, H, W) patterns as the detector wrote them, of any shape.
    `measurement_domain`: what the file says that the patterns are: `counts` or `amplitude`.
    `positions` (K, 2): positions (x, y); K may differ from M, and values may be anything.
    `position_unit`: `px` of the object, or `m`.
    `probe` (P, n, n).
    `bad_pixels` (H, W): True where the file says that the detector can't be trusted.
    `detector_pixel_height_m`: height of a detector pixel, where it differs from its width in
        `metadata`.
    `saturation`: value from which on the file says that a pixel is no measurement.
    `scan_shape`: rows and columns of a raster scan.
    `orientation`: how patterns have to be turned; a key of `ORIENTATIONS`.
    `says_orientation`: whether that is what the file says about its detector, so that an option
        replaces it.
    `looked_for`: where each quantity that is missing was looked for, for messages.
    `warnings`: what is doubtful about the file, in sentences.
    """

    name: str
    patterns: PatternSource | None = None
    measurement_domain: MeasurementDomain | None = None
    positions: NDArray[np.float64] | None = None
    position_unit: Literal["px", "m"] = "px"
    probe: NDArray[np.complex64] | None = None
    object_guess: NDArray[np.complex64] | None = None
    positions_start: NDArray[np.float64] | None = None
    scan_index: NDArray[np.int64] | None = None
    bad_pixels: NDArray[np.bool_] | None = None
    metadata: ScanMetadata = field(default_factory=ScanMetadata)
    detector_pixel_height_m: float | None = None
    saturation: float | None = None
    scan_shape: tuple[int, int] | None = None
    orientation: Orientation = "identity"
    says_orientation: bool = False
    swap_quadrants: bool = False
    provenance: dict[str, Any] = field(default_factory=dict)
    looked_for: dict[str, str] = field(default_factory=dict)
    warnings: tuple[str, ...] = ()

    @classmethod
    def of(cls, scan: Scan) -> "ScanParts":
        """Take a scan that a reader has made apart, so that options can act on it."""
        return cls(
            name=scan.name,
            patterns=scan.patterns,
            measurement_domain=scan.measurement_domain,
            positions=scan.positions,
            probe=scan.probe,
            object_guess=scan.object_guess,
            positions_start=scan.positions_start,
            scan_index=scan.scan_index,
            bad_pixels=scan.bad_pixels,
            metadata=scan.metadata,
            provenance=scan.provenance,
            warnings=scan.warnings,
        )
