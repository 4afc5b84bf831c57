"""A reconstruction, and the files that it is saved as."""

import os
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from ptychostream.persistence.product import write_product
from ptychostream.scan import ScanMetadata


@dataclass(frozen=True, eq=False, kw_only=True)
class ReconstructionResult:
    """An object and how it came about.

    Attributes
    ----------
    object : (H, W) complex64
        Transmission on the scan's own grid; zero where no patch lies.
    coverage : (H, W) float32
        Number of patches in whose lit area a pixel lies.
    origin : (float, float)
        Scan position (x, y) of the object's first pixel; (0, 0) unless patches reach beyond,
        or another grid was asked for.
    probe : (P, N, N) complex64
        Illumination at the power that goes with `object`: Σ|probe · object|² is photons.
    positions : (M, 2) float64
        Scan positions (x, y) of the experiment, in pixels.
    num_patches : int
        Patches that were stitched.
    num_clipped : int
        Those of which a part lies outside the object's grid.
    metadata : ScanMetadata
        What is known about the experiment.
    losses : tuple of float
        Training loss of each epoch of the model.
    seconds : dict
        Time to `predict` (reading included), `stitch` and `refine`.
    is_partial : bool
        Whether it was stopped before all patterns were used, or all passes were made.
    """

    object: NDArray[np.complex64]
    coverage: NDArray[np.float32]
    origin: tuple[float, float]
    probe: NDArray[np.complex64]
    positions: NDArray[np.float64]
    num_patches: int
    num_clipped: int
    metadata: ScanMetadata = field(default_factory=ScanMetadata)
    losses: Sequence[float] = ()
    seconds: dict[str, float] = field(default_factory=dict)
    is_partial: bool = False


def save_result(result: ReconstructionResult, folder: str | Path) -> list[Path]:
    """Save a reconstruction as arrays and as a ptychodus product.

    Each file appears under its name only when it is complete.

    Parameters
    ----------
    result : ReconstructionResult
        The reconstruction.
    folder : str or Path
        Where the files go; made if need be.

    Returns
    -------
    list of Path
        `object.npz` (object, coverage, origin, probe, positions, is_partial) and `object.h5`,
        whose comments say so where the result is partial.
    """
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    arrays, product = folder / "object.npz", folder / "object.h5"
    partial = folder / f".object.npz.{os.getpid()}.partial"
    try:
        with partial.open("wb") as stream:
            np.savez_compressed(
                stream,
                object=result.object,
                coverage=result.coverage,
                origin=np.array(result.origin),
                probe=result.probe,
                positions=result.positions,
                is_partial=result.is_partial,
            )
        partial.replace(arrays)
    finally:
        partial.unlink(missing_ok=True)
    write_product(
        product,
        obj=result.object,
        probe=result.probe,
        positions=result.positions - np.array(result.origin),
        metadata=result.metadata,
        losses=result.losses,
        comments="partial result: the reconstruction was stopped early" * result.is_partial,
    )
    return [arrays, product]
