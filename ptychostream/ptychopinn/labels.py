"""Cut true patches, the labels, out of a known object."""

import numpy as np
from numpy.typing import NDArray

#: Zeros around the padded object that a patch may reach into, besides half a patch.
_MARGIN = 2


def cut_labels(
    obj: NDArray[np.complex64], centres: NDArray[np.float64], patch_size: int
) -> NDArray[np.complex64]:
    """Cut the true patches under the members of groups.

    Parameters
    ----------
    obj : (H, W) complex64
        The object; zero outside.
    centres : (B, C, 2) float64
        Positions (x, y), in pixels.

    Returns
    -------
    (B, N, N, C) complex64
        Patches, interpolated bilinearly between pixels.
    """
    shape = np.asarray(centres).shape[:2]
    corners = np.asarray(centres, dtype=np.float64).reshape(-1, 2)
    span = np.arange(patch_size)
    return _cut(obj, corners[:, :, None] + span, shape)


def cut_labels_in_single_precision(
    obj: NDArray[np.complex64], centres: NDArray[np.float64], patch_size: int
) -> NDArray[np.complex64]:
    """Cut patches with the rounding of the existing backend, which interpolates in float32.

    Parameters
    ----------
    obj : (H, W) complex64
        The object; zero outside.
    centres : (B, C, 2) float64
        Positions (x, y), in pixels.

    Returns
    -------
    (B, N, N, C) complex64
        Patches.
    """
    shape = np.asarray(centres).shape[:2]
    # Coordinates in the padded object are added up in float32: their error decides.
    corners = np.asarray(centres).reshape(-1, 2).astype(np.float32)
    span = np.arange(patch_size, dtype=np.float32)
    return _cut(obj, corners[:, :, None] + span, shape)


def _cut(
    obj: NDArray[np.complex64], coordinates: NDArray[np.floating], shape: tuple[int, ...]
) -> NDArray[np.complex64]:
    """Interpolate at the columns and rows (M, 2, N), counted from half a patch off the object."""
    edge = coordinates.shape[-1]
    padded = np.pad(np.asarray(obj, np.complex64), edge // 2 + _MARGIN)
    # Real and imaginary part lie side by side: products with real weights take half the time.
    flat = padded.view(np.float32)
    cells = np.floor(coordinates)
    first = cells[:, :, 0].astype(np.int64) + _MARGIN
    weights = (coordinates - cells).astype(np.float32)
    limit = np.array(padded.shape)[::-1] - edge
    # Where rounding skips a pixel, or beyond the margin, pixels are picked one by one.
    whole = (cells[:, :, -1] - cells[:, :, 0] == edge - 1) & (first >= 0) & (first < limit)
    regular = whole.all(axis=1)
    patches = np.empty((shape[0], edge, edge, shape[1]), np.complex64)
    across, along = np.repeat(weights[:, 0], 2, axis=-1), weights[:, 1, :, None]
    rest_across, rest_along = 1 - across, 1 - along
    # A patch at a time stays in the processor's cache: quicker than many at once.
    upper, lower = np.empty((2, edge + 1, 2 * edge), np.float32)
    for number, (column, row) in enumerate(first):
        group, member = divmod(number, shape[1])
        if not regular[number]:
            patches[group, :, :, member] = _cut_by_pixel(padded, coordinates[number])
            continue
        window = flat[row : row + edge + 1, 2 * column : 2 * (column + edge + 1)]
        np.multiply(window[:, :-2], rest_across[number], out=upper)
        np.multiply(window[:, 2:], across[number], out=lower)
        upper += lower
        np.multiply(upper[1:], along[number], out=lower[1:])
        np.multiply(upper[:-1], rest_along[number], out=upper[:-1])
        np.add(upper[:-1], lower[1:], out=lower[1:])
        patches[group, :, :, member] = lower[1:].view(np.complex64)
    return patches


def _cut_by_pixel(
    padded: NDArray[np.complex64], coordinates: NDArray[np.floating]
) -> NDArray[np.complex64]:
    """Interpolate at columns and rows (2, N) wherever they lie; zero outside."""
    cells = np.floor(coordinates)
    fx, fy = (coordinates - cells).astype(np.float32)
    height, width = padded.shape
    column, row = cells.astype(np.int64) + _MARGIN
    left, right = (np.clip(column + step, 0, width - 1) for step in (0, 1))
    above, below = (np.clip(row + step, 0, height - 1)[:, None] for step in (0, 1))
    upper = padded[above, left] * (1 - fx) + padded[above, right] * fx
    lower = padded[below, left] * (1 - fx) + padded[below, right] * fx
    patch: NDArray[np.complex64] = upper * (1 - fy[:, None]) + lower * fy[:, None]
    return patch
