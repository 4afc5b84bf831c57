"""A reconstruction, and the files that it is saved as."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from ptychostream.datasets.sources.ptychodus.conventions import object_pixel_size_m
from ptychostream.datasets.sources.ptychodus.product import write_product
from ptychostream.evaluation.frc import FourierRingCorrelation
from ptychostream.files import whole_file
from ptychostream.reconstruction.fit import NOT_CONVERGED, Fit
from ptychostream.scan import ScanMetadata

#: Part of saturated pixels from which on a user should know.
_SATURATION_WORTH_SAYING = 0.05


@dataclass(frozen=True, eq=False, kw_only=True)
class ReconstructionResult:
    """An object and how it came about.

    Attributes
    ----------
    object : (H, W) complex64
        Transmission on the scan's own grid; zero where no patch lies.
    coverage : (H, W) float32
        Number of different positions in whose lit area a pixel lies.
    origin : (float, float)
        Scan position (x, y) of the object's first pixel; (0, 0) unless patches reach beyond,
        or another grid was asked for.
    probe : (P, N, N) complex64
        Illumination at the power that goes with `object`: Σ|probe · object|² is photons.
    positions : (M, 2) float64
        Scan positions (x, y) of the experiment, in pixels.
    numbers : (M,) int64, optional
        The number of each position's pattern in its scan; None is 0, 1, ….
    num_patches : int
        Patches that were stitched.
    num_clipped : int
        Those of which a part lies outside the object's grid.
    num_dropped : int
        Patches that were left out: outside the grid, or not finite.
    num_duplicates : int
        Patches of a position that had one already; their mean was taken.
    without_patch : (U,) int64
        Patterns, as rows of the store, of which no patch was stitched.
    saturation : float, optional
        Part of the lit pixels whose amplitude is the largest that the network can give; None
        where it has no limit.
    metadata : ScanMetadata
        What is known about the experiment.
    losses : tuple of float
        Training loss of each epoch of the model.
    seconds : dict
        Time spent waiting to `read`, to `predict`, to `stitch` (beside the others), to
        `refine`, and in `total`.
    frc : FourierRingCorrelation, optional
        Agreement of two stitched objects, each from every other pattern, before refinement; None
        where the object is too small, or too large to be kept twice.
    is_partial : bool
        Whether it was stopped before all patterns were used, or all passes were made.
    positions_measured : (M, 2) float64, optional
        The store's positions, where `positions` were corrected; None where they were not.
    fit : Fit, optional
        How well object and probe explain the patterns; None without passes of the solver.
    remarks : tuple of str
        What else a user should know, a sentence each.
    """

    object: NDArray[np.complex64]
    coverage: NDArray[np.float32]
    origin: tuple[float, float]
    probe: NDArray[np.complex64]
    positions: NDArray[np.float64]
    num_patches: int
    num_clipped: int
    numbers: NDArray[np.int64] | None = None
    num_dropped: int = 0
    num_duplicates: int = 0
    without_patch: NDArray[np.int64] = field(default_factory=lambda: np.empty(0, np.int64))
    saturation: float | None = None
    metadata: ScanMetadata = field(default_factory=ScanMetadata)
    losses: Sequence[float] = ()
    seconds: dict[str, float] = field(default_factory=dict)
    frc: FourierRingCorrelation | None = None
    is_partial: bool = False
    positions_measured: NDArray[np.float64] | None = None
    fit: Fit | None = None
    remarks: tuple[str, ...] = ()

    @property
    def misfit(self) -> NDArray[np.float32]:
        """R = Σ|√I - A| / ΣA of each pass, (passes,); empty without passes of the solver."""
        return np.array([] if self.fit is None else self.fit.misfit, np.float32)

    @property
    def misfit_of_patterns(self) -> NDArray[np.float32]:
        """R of each pattern, (M,), for the result; NaN where it was not computed."""
        if self.fit is None:
            return np.full(len(self.positions), np.nan, np.float32)
        return self.fit.misfit_of_patterns

    def warnings(self) -> list[str]:
        """Return what a user should know before trusting the object.

        Returns
        -------
        list of str
            A sentence each; none where all is well.
        """
        said = []
        if self.is_partial:
            said.append("the result is partial: it was stopped early, or the scan is still growing")
        if self.num_clipped:
            height, width = self.object.shape[-2:]
            said.append(
                f"{self.num_clipped} of {self.num_patches} patches reach beyond the object's grid "
                f"of {height} x {width} px"
            )
        if self.num_dropped:
            said.append(
                f"{self.num_dropped} patches were left out: they lie outside the grid or are not "
                "finite"
            )
        if len(self.without_patch):
            named = ", ".join(map(str, self.without_patch[:10].tolist()))
            more = ", …" if len(self.without_patch) > 10 else ""
            said.append(
                f"{len(self.without_patch)} of {len(self.positions)} positions have no patch: "
                f"{named}{more}"
            )
        if self.saturation is not None and self.saturation > _SATURATION_WORTH_SAYING:
            said.append(
                f"{self.saturation:.0%} of the lit pixels have the largest amplitude that the "
                "network can give: the object may be flattened there"
            )
        doubts = [] if self.fit is None else self.fit.warnings()
        # More passes do not help a result that does not predict.
        remarks = [text for text in self.remarks if not (doubts and NOT_CONVERGED in text)]
        return [*said, *remarks, *doubts]


def save_result(result: ReconstructionResult, folder: str | Path) -> list[Path]:
    """Save a reconstruction as arrays and as a ptychodus product.

    Each file appears under its name only when it is complete.

    Returns `object.npz` (object, coverage, origin, probe, positions as solved and as measured,
        pixel size, misfit of each pass and of each pattern, is_partial) and `object.h5`, whose
        comments say how well the result fits, and where it is partial.
    """
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    arrays, product = folder / "object.npz", folder / "object.h5"
    with whole_file(arrays) as partial, partial.open("wb") as stream:
        np.savez_compressed(
            stream,
            object=result.object,
            coverage=result.coverage,
            origin=np.array(result.origin),
            probe=result.probe,
            positions=result.positions,
            positions_measured=(
                result.positions if result.positions_measured is None else result.positions_measured
            ),
            object_pixel_size_m=_pixel_size_m(result),
            misfit=result.misfit,
            misfit_of_patterns=result.misfit_of_patterns,
            is_partial=result.is_partial,
        )
        # Inside the block: if the product can't be written, the earlier arrays are kept.
        write_product(
            product,
            obj=result.object,
            probe=result.probe,
            positions=result.positions,
            origin=result.origin,
            numbers=result.numbers,
            metadata=result.metadata,
            losses=result.losses or result.misfit.tolist(),
            comments="; ".join(_comments(result)),
        )
    return [arrays, product]


def _pixel_size_m(result: ReconstructionResult) -> float:
    """Return the edge of an object pixel in metres, NaN where it is not known."""
    size, is_assumed = object_pixel_size_m(result.metadata, result.probe.shape[-1])
    return float("nan") if is_assumed else size


def _comments(result: ReconstructionResult) -> list[str]:
    comments = []
    if result.is_partial:
        comments.append("partial result: the reconstruction was stopped early")
    size, is_assumed = object_pixel_size_m(result.metadata, result.probe.shape[-1])
    if is_assumed:
        comments.append(f"pixel size unknown: lengths assume {size * 1e9:.4g} nm")
    if result.fit is not None:
        comments.append(f"R-factor {result.fit.final:.4f}")
    return comments
