"""Positions that can't be right: outliers, and placeholders of positions never measured."""

import numpy as np
from numpy.typing import NDArray

from ptychostream.datasets.sources.near_positions import as_points, has_near
from ptychostream.datasets.sources.rows import as_ranges, with_numbers
from ptychostream.errors import DataContractError
from ptychostream.geometry import check_extent

#: A position this many times further from the median than most is an outlier.
_FAR = 8.0

#: Patterns that may share one position, as exposures that were repeated.
_REPEATED = 3

#: Positions of which too little is known to find one that is odd.
_FEW = 12


def check_places(
    name: str,
    positions: NDArray[np.float64],
    as_read: NDArray[np.float64],
    patch_size: int,
    *,
    numbers: NDArray[np.int64],
    leave_out: str,
    pixel_m: float | None,
    unit: str,
    odd_geometry: list[str],
) -> list[str]:
    """Return warnings about positions that were never measured or can't be right.

    `positions` (M, 2): positions (x, y) in pixels.
    `as_read` (M, 2): the same as the file holds them.
    `numbers` (M,): their numbers in the file.
    `pixel_m`: the object's pixel, where it is known.
    `unit`: the unit in which the positions were read.
    `odd_geometry`: what can't be right about the geometry, in sentences.
    """
    try:
        check_extent(positions, patch_size, name=name)
    except DataContractError as error:
        away = np.linalg.norm(positions - np.median(positions, axis=0), axis=1)
        far = np.flatnonzero(away > _FAR * max(np.median(away), 1e-12))
        if len(far) and len(far) <= 0.3 * len(positions):
            raise DataContractError(
                f"{error}. {len(far)} of {len(positions)} positions lie far from all others; if "
                f"they were not measured, leave them out with their patterns: "
                f"{with_numbers(leave_out, numbers[far])}"
            ) from error
        if pixel_m is None:
            raise
        if odd_geometry and unit != "px":
            raise DataContractError(f"{name}: {'; '.join(odd_geometry)}") from error
        wrong = _wrong_unit(name, positions, patch_size, pixel_m, unit)
        raise DataContractError(wrong) from error
    said = []
    repeated = _repeated(as_read)
    if len(repeated):
        x, y = as_read[repeated[0]]
        said.append(
            f"{len(repeated)} of {len(as_read)} positions are exactly ({x:g}, {y:g}), numbers of "
            f"patterns {as_ranges(numbers[repeated])}, as where a scan was stopped; if they were "
            f"not measured, leave them out: {with_numbers(leave_out, numbers[repeated])}"
        )
    isolated = _isolated(positions, patch_size)
    if len(isolated):
        said.append(
            f"{len(isolated)} of {len(positions)} positions lie far from all others, numbers "
            f"{as_ranges(numbers[isolated])}; if they are wrong, leave them out: "
            f"{with_numbers(leave_out, numbers[isolated])}"
        )
    spread = np.linalg.svd(positions - positions.mean(axis=0), compute_uv=False)
    if len(positions) > _FEW and spread[0] > 0 and spread[1] < 1e-3 * spread[0]:
        said.append(
            "all positions lie on one line, so that nothing is known across it; x and y may be "
            "the same column, or one of them constant"
        )
    return said


def _wrong_unit(
    name: str, positions: NDArray[np.float64], patch_size: int, pixel_m: float, read_in: str
) -> str:
    """Say that positions fit no scan in the unit that they were read in, and in which they would.

    `pixel_m`: the object's pixel.
    """
    # Imported where it is used: commands that read stores do without, and start the sooner.
    from scipy.spatial import KDTree

    width, height = np.ptp(positions, axis=0)
    distinct = np.unique(positions, axis=0)
    step = 0.0
    if len(distinct) > 1:
        step = float(np.median(KDTree(distinct).query(distinct, k=2)[0][:, 1]))
    in_pixels = {"m": 1 / pixel_m, "mm": 1e-3 / pixel_m, "um": 1e-6 / pixel_m}
    in_pixels |= {"nm": 1e-9 / pixel_m, "px": 1.0}
    fit = [
        unit
        for unit, factor in in_pixels.items()
        if unit != read_in and 0.5 < step * factor / in_pixels[read_in] < patch_size
    ]
    advice = (
        f"in {' or '.join(fit)} they would be a scan: --position_unit {fit[0]}"
        if fit
        else "in none of m, mm, um, nm and px they would be one"
    )
    return (
        f"{name}: the positions were read in {read_in} and span {width:.4g} x {height:.4g} pixels "
        f"of the object, {pixel_m:.4g} m each, {step:.3g} pixels from one to the next, which is no "
        f"scan; {advice}. Or the pixel is wrong, which follows from the photon energy, the "
        "detector's distance and its pixel: --energy, --distance, --detector_pixel"
    )


def _repeated(as_read: NDArray[np.float64]) -> NDArray[np.int64]:
    """Find the patterns at one position that many have, while others have their own."""
    points = as_points(as_read)
    places, times = np.unique(points, return_counts=True)
    most = int(times.argmax())
    fewest = _REPEATED if not places[most] else _REPEATED + 1
    if times[most] < fewest or len(places) < 2 or np.sort(times)[-2] >= _REPEATED:
        return np.empty(0, np.int64)
    return np.flatnonzero(points == places[most])


def _isolated(positions: NDArray[np.float64], patch_size: int) -> NDArray[np.int64]:
    """Find positions whose neighbours are much further off than those of most."""
    if len(positions) <= _FEW:
        return np.empty(0, np.int64)
    from scipy.spatial import KDTree

    # Hardly any position needs its distance computed to tell that it is not isolated.
    perhaps = positions[~has_near(positions, 0.5 * patch_size)]
    tree = KDTree(positions)
    if not (len(perhaps) and (tree.query(perhaps, k=2)[0][:, 1] > 0.5 * patch_size).any()):
        return np.empty(0, np.int64)
    nearest = tree.query(positions, k=2)[0][:, 1]
    far = np.flatnonzero(nearest > max(_FAR * np.median(nearest), 0.5 * patch_size))
    return far if len(far) <= 0.1 * len(positions) else np.empty(0, np.int64)
