"""Remove what ptychography does not determine: global phase and scale, phase ramp, and shift."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ptychostream.errors import DataContractError

#: Shifts are found to this part of a pixel.
_SUBPIXEL = 100
_ROUNDS = 3


@dataclass(frozen=True, eq=False, kw_only=True)
class Alignment:
    """An object aligned with a reference, and how it was changed for that.

    `object` (H, W): the aligned object.
    `shift`: how far the object was moved (x, y), in pixels.
    `ramp`: phase ramp that was removed (x, y), in radians per pixel.
    `scale`: factor that it was multiplied by.
    """

    object: NDArray[np.complex128]
    shift: tuple[float, float]
    ramp: tuple[float, float]
    scale: complex


def align_object(
    obj: NDArray[np.complex64],
    reference: NDArray[np.complex64],
    region: NDArray[np.bool_],
    *,
    register: bool = True,
) -> Alignment:
    """Find and remove shift, phase ramp, global phase and scale of an object.

    `obj`, `reference` (H, W): two objects on the same grid.
    `region` (H, W): where they are compared.
    """
    from skimage.registration import phase_cross_correlation

    truth = reference.astype(np.complex128)
    moved = obj.astype(np.complex128)
    total = np.zeros(2)
    box = bounding_box(region)
    flat, _, _ = _remove_ramp(moved, truth, region)
    for _ in range(_ROUNDS if register else 0):
        # The means are subtracted: in images of low contrast they would keep the shift at zero.
        window = np.hanning(truth[box].shape[0])[:, None] * np.hanning(truth[box].shape[1])
        a = (truth[box] - truth[region].mean()) * window
        b = (flat[box] - flat[region].mean()) * window
        # The ramp was fitted before the shift was known, so both are found in rounds.
        step, _, _ = phase_cross_correlation(a, b, upsample_factor=_SUBPIXEL, normalization=None)
        if np.abs(step).max() < 1 / _SUBPIXEL:
            break
        if np.abs(total + step).max() > min(truth[box].shape) / 4:
            # A shift this large means that none was found: keep the object as it was.
            total[:] = 0
            break
        total += step
        moved = _shift(obj.astype(np.complex128), total)
        flat, _, _ = _remove_ramp(moved, truth, region)
    if not total.any():
        moved = obj.astype(np.complex128)
    aligned, ramp, scale = _remove_ramp(moved, truth, region)
    return Alignment(
        object=aligned,
        shift=(float(total[1]), float(total[0])),
        ramp=ramp,
        scale=scale,
    )


def reference_on_grid(
    reference: NDArray[np.complex64],
    origin: tuple[float, float],
    wanted_origin: tuple[float, float],
    shape: tuple[int, int],
) -> tuple[NDArray[np.complex64], tuple[slice, slice]]:
    """Cut the part of a reference that lies on the grid of an object, shifted by their origins.

    `origin`: scan position (x, y) of its first pixel.
    `wanted_origin`: scan position (x, y) of the object's first pixel.
    `shape`: rows and columns of the object.
    Returns `reference` (h, w): the part of it that lies under the object.
    Returns `part` (slice, slice): rows and columns of the object that it lies under.
    """
    steps = np.array(wanted_origin[::-1], float) - np.array(origin[::-1], float)
    whole = np.rint(steps).astype(int)
    rest = steps - whole
    if np.abs(rest).max() > 1e-3:
        reference = _shift(reference.astype(np.complex128), -rest).astype(np.complex64)
    first = np.maximum(-whole, 0)
    last = np.minimum(np.array(shape), np.array(reference.shape) - whole)
    if (last <= first).any():
        raise DataContractError(
            f"the object of {shape} px at {wanted_origin} and the reference of {reference.shape} "
            f"px at {origin} do not overlap: are they of the same scan?"
        )
    part = (slice(int(first[0]), int(last[0])), slice(int(first[1]), int(last[1])))
    begin, end = first + whole, last + whole
    return reference[begin[0] : end[0], begin[1] : end[1]], part


def bounding_box(region: NDArray[np.bool_]) -> tuple[slice, slice]:
    """Return rows and columns of the smallest rectangle that holds a region, which is not empty."""
    rows, columns = np.flatnonzero(region.any(axis=1)), np.flatnonzero(region.any(axis=0))
    return slice(int(rows[0]), int(rows[-1]) + 1), slice(int(columns[0]), int(columns[-1]) + 1)


def without_ramp(
    obj: NDArray[np.complexfloating], region: NDArray[np.bool_]
) -> NDArray[np.complex128]:
    """Remove the phase ramp and the mean phase that an object has in a region."""
    whole = np.asarray(obj, np.complex128)
    flat, _, scale = _remove_ramp(whole, np.ones_like(whole), region)
    return flat / abs(scale)


def _remove_ramp(
    obj: NDArray[np.complex128], truth: NDArray[np.complex128], region: NDArray[np.bool_]
) -> tuple[NDArray[np.complex128], tuple[float, float], complex]:
    product = np.where(region, obj * truth.conj(), 0)
    # The mean phase step between neighbouring pixels needs no unwrapping.
    ramp_x = float(np.angle((product[:, 1:] * product[:, :-1].conj()).sum()))
    ramp_y = float(np.angle((product[1:] * product[:-1].conj()).sum()))
    rows, columns = np.ogrid[: obj.shape[0], : obj.shape[1]]
    for _ in range(_ROUNDS):
        flat = obj * np.exp(-1j * (ramp_x * columns + ramp_y * rows))
        rest = flat[region] * truth[region].conj()
        rest = rest * np.exp(-1j * np.angle(rest.sum()))
        y, x = np.nonzero(region)
        design = np.stack([x, y, np.ones_like(x)], axis=1).astype(float)
        weight = np.sqrt(np.abs(rest))
        fit, *_ = np.linalg.lstsq(design * weight[:, None], np.angle(rest) * weight, rcond=None)
        ramp_x, ramp_y = ramp_x + float(fit[0]), ramp_y + float(fit[1])
    flat = obj * np.exp(-1j * (ramp_x * columns + ramp_y * rows))
    inside = flat[region]
    phase = np.angle((truth[region] * inside.conj()).sum())
    size = (np.abs(truth[region]) * np.abs(inside)).sum() / (np.abs(inside) ** 2).sum()
    scale = complex(size * np.exp(1j * phase))
    return flat * scale, (ramp_x, ramp_y), scale


def _shift(obj: NDArray[np.complex128], shift: NDArray[np.float64]) -> NDArray[np.complex128]:
    from scipy.ndimage import shift as spline_shift

    return np.asarray(spline_shift(obj, shift, order=3, mode="nearest"))
