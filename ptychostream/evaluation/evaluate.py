"""All figures of merit of an object against a reference."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ptychostream.errors import DataContractError
from ptychostream.evaluation.align import Alignment, align_object, bounding_box
from ptychostream.evaluation.frc import FourierRingCorrelation, fourier_ring_correlation

#: Patches that must cover a pixel for it to be compared.
MIN_COVERAGE = 3

#: Edge of the smallest square that is correlated, in pixels.
_SMALLEST_SQUARE = 16


@dataclass(frozen=True, eq=False, kw_only=True)
class Evaluation:
    """Figures of merit, and the images that they were measured on.

    Attributes
    ----------
    metrics : dict
        Numbers, JSON values.
    alignment : Alignment
        The object, aligned with the reference.
    reference : (H, W) complex64
        The reference.
    region : (H, W) bool
        Where they were compared.
    frc : FourierRingCorrelation or None
        Within the largest square in the middle of the region; None where that is too small.
    """

    metrics: dict[str, float | int | list[float] | list[int] | str | None]
    alignment: Alignment
    reference: NDArray[np.complex64]
    region: NDArray[np.bool_]
    frc: FourierRingCorrelation | None


def evaluate_object(
    obj: NDArray[np.complex64],
    reference: NDArray[np.complex64],
    coverage: NDArray[np.float32],
    *,
    register: bool = True,
    min_coverage: float = MIN_COVERAGE,
) -> Evaluation:
    """Compare an object with a reference.

    Both lie on the scan's own grid: their first pixels coincide, and the larger is cropped at its
    far edges. Global phase, scale, phase ramp and a shift are removed first.
    PSNR and SSIM use the range of the reference in the region; SSIM is the mean of its local
    map over the region. The figures of the FRC are None where the middle of the region has no
    covered square that is large enough.

    Parameters
    ----------
    obj : (H, W) complex64
        The object.
    reference : (H', W') complex64
        The true object, or a better one.
    coverage : (H, W) float32
        Patches that cover each pixel.
    register : bool
        Whether a shift is found and removed.
    min_coverage : float
        Patches that must cover a pixel for it to count.

    Returns
    -------
    Evaluation
        The figures of merit.

    Raises
    ------
    DataContractError
        If the arrays do not fit, the region is too small to compare, or object or reference are
        not finite, or zero in all of it.
    """
    if not obj.ndim == reference.ndim == coverage.ndim == 2:
        raise DataContractError(
            f"object, reference and coverage are {obj.shape}, {reference.shape} and "
            f"{coverage.shape}; expected (H, W) of each"
        )
    height, width = np.minimum(obj.shape, reference.shape)
    if coverage.shape[0] < height or coverage.shape[1] < width:
        raise DataContractError(
            f"the coverage is {coverage.shape}, expected that of the object, {obj.shape}"
        )
    obj, reference = obj[:height, :width], reference[:height, :width]
    region = coverage[:height, :width] >= min_coverage
    if not np.isfinite(obj).all() or not np.isfinite(reference).all():
        raise DataContractError("object or reference hold NaN or infinite values")
    if region.sum() < 256 or min(np.ptp(np.nonzero(region), axis=1)) < 16:
        raise DataContractError(
            f"only {int(region.sum())} pixels are covered by {min_coverage:g} patches or more: "
            "too few to compare"
        )
    for name, image in (("object", obj), ("reference", reference)):
        if not image[region].any():
            raise DataContractError(
                f"the {name} is zero in all of the {int(region.sum())} pixels that are compared"
            )
    alignment = align_object(obj, reference, region, register=register)
    aligned, truth = alignment.object, reference.astype(np.complex128)
    # Phases are measured from the reference's mean phase, so that they do not wrap.
    turn = np.exp(-1j * np.angle(truth[region].sum()))
    images = {
        "amplitude": (np.abs(aligned), np.abs(truth)),
        "phase": (np.angle(aligned * turn), np.angle(truth * turn)),
    }
    metrics: dict[str, float | int | list[float] | list[int] | str | None] = {}
    for name, (image, wanted) in images.items():
        metrics |= _compare(name, image, wanted, region)
    error = np.abs(aligned[region] - truth[region])
    metrics["nrmse"] = float(np.sqrt((error**2).sum() / (np.abs(truth[region]) ** 2).sum()))
    square = _square_to_correlate(region)
    frc = None if square is None else fourier_ring_correlation(aligned[square], truth[square])
    metrics["frc_one_seventh"] = None if frc is None else frc.crossing(1 / 7)
    metrics["frc_half_bit"] = None if frc is None else frc.crossing(frc.half_bit)
    metrics["frc_square"] = square and [s for part in square for s in (part.start, part.stop)]
    rows, columns = bounding_box(region)
    metrics["region_pixels"] = int(region.sum())
    metrics["region_box"] = [rows.start, rows.stop, columns.start, columns.stop]
    metrics["min_coverage"] = min_coverage
    metrics["shift_px"] = list(alignment.shift)
    metrics["ramp_rad_per_px"] = list(alignment.ramp)
    metrics["scale_amplitude"] = abs(alignment.scale)
    metrics["frame"] = "scan grid; scale, global phase, ramp" + (", shift" if register else "")
    return Evaluation(
        metrics=metrics, alignment=alignment, reference=reference, region=region, frc=frc
    )


def split_frc(
    first: NDArray[np.complex64],
    second: NDArray[np.complex64],
    known: NDArray[np.bool_],
    coverage: NDArray[np.float32],
    *,
    min_coverage: float = MIN_COVERAGE,
) -> FourierRingCorrelation | None:
    """Correlate two halves of a reconstruction, to measure its resolution without a reference.

    Parameters
    ----------
    first, second : (H, W) complex64
        Objects, each from every other pattern.
    known : (H, W) bool
        Where both are known.
    coverage : (H, W) float32
        Patches that cover each pixel in all.

    Returns
    -------
    FourierRingCorrelation or None
        Within the largest square in the middle; None where that is too small.
    """
    region = known & (coverage >= min_coverage)
    if not region.any():
        return None
    square = _square_to_correlate(region)
    return None if square is None else fourier_ring_correlation(first[square], second[square])


def _square_to_correlate(region: NDArray[np.bool_]) -> tuple[slice, slice] | None:
    square = largest_square(region)
    # Squares below 16 px have too few rings for a Fourier ring correlation.
    return None if square[0].stop - square[0].start < _SMALLEST_SQUARE else square


def _compare(
    name: str,
    image: NDArray[np.float64],
    wanted: NDArray[np.float64],
    region: NDArray[np.bool_],
) -> dict[str, float | None]:
    from skimage.metrics import structural_similarity

    inside, target = image[region], wanted[region]
    span = float(np.ptp(target))
    rmse = float(np.sqrt(((inside - target) ** 2).mean()))
    spreads = inside.std(), target.std()
    correlation = float(np.corrcoef(inside, target)[0, 1]) if min(spreads) > 0 else 0.0
    metrics: dict[str, float | None] = {
        f"{name}_rmse": rmse,
        f"{name}_correlation": correlation,
        f"{name}_spread_ratio": float(spreads[0] / spreads[1]) if spreads[1] > 0 else 0.0,
    }
    if span > 0:
        box = bounding_box(region)
        _, similarity = structural_similarity(wanted[box], image[box], data_range=span, full=True)
        metrics[f"{name}_ssim"] = float(similarity[region[box]].mean())
        # The PSNR of equal images is infinite, which JSON cannot express.
        metrics[f"{name}_psnr"] = float(20 * np.log10(span / rmse)) if rmse else None
    return metrics


def largest_square(region: NDArray[np.bool_]) -> tuple[slice, slice]:
    """Return rows and columns of the largest square around the middle of a region, inside it."""
    rows, columns = bounding_box(region)
    middle = (rows.start + rows.stop) // 2, (columns.start + columns.stop) // 2
    most = min(rows.stop - rows.start, columns.stop - columns.start) // 2
    for half in range(most, 0, -1):
        square = tuple(slice(max(m - half, 0), m + half) for m in middle)
        if region[square].mean() > 0.999:
            break
    return square[0], square[1]
