"""Cut true patches, the labels, out of a known object."""

import numpy as np
import torch
from numpy.typing import NDArray

from ptychostream.patches import extract_patches

#: Patches cut at once: 64 x 64 px of indices and values are some 5 MB.
_BLOCK = 64


def cut_labels(
    obj: NDArray[np.complex64], centres: NDArray[np.float64], patch_size: int
) -> NDArray[np.complex64]:
    """Cut the true patch under each position.

    Parameters
    ----------
    obj : (H, W) complex64
        The object; zero outside.
    centres : (..., 2) float64
        Positions (x, y), in pixels.
    patch_size : int
        Edge N.

    Returns
    -------
    (..., N, N) complex64
        Patches, interpolated bilinearly between pixels.
    """
    flat = torch.as_tensor(np.ascontiguousarray(centres).reshape(-1, 2))
    whole = torch.as_tensor(np.asarray(obj, dtype=np.complex64))
    patches = np.empty((len(flat), patch_size, patch_size), np.complex64)
    for start in range(0, len(flat), _BLOCK):
        block = extract_patches(whole, flat[start : start + _BLOCK], patch_size)
        patches[start : start + _BLOCK] = block.numpy()
    return patches.reshape(*centres.shape[:-1], patch_size, patch_size)


def cut_labels_in_single_precision(
    obj: NDArray[np.complex64], centres: NDArray[np.float64], patch_size: int
) -> NDArray[np.complex64]:
    """Cut patches with the rounding of the existing backend, which interpolates in float32.

    Parameters
    ----------
    obj : (H, W) complex64
        The object; zero outside.
    centres : (..., 2) float64
        Positions (x, y), in pixels.
    patch_size : int
        Edge N.

    Returns
    -------
    (..., N, N) complex64
        Patches.
    """
    flat = np.asarray(centres).reshape(-1, 2).astype(np.float32)
    # Padded by half a patch, as the coordinates have it, and by two pixels that stay zero.
    padded = np.pad(np.asarray(obj, np.complex64), patch_size // 2 + 2)
    height, width = padded.shape
    patches = np.empty((len(flat), patch_size, patch_size), np.complex64)
    span = np.arange(patch_size, dtype=np.float32)
    for start in range(0, len(flat), _BLOCK):
        # Coordinates in the padded object are added up in float32: their error decides.
        x, y = (span + flat[start : start + _BLOCK, axis, None] for axis in (0, 1))
        column, row = np.floor(x), np.floor(y)
        fx, fy = (x - column)[:, None, :], (y - row)[:, :, None]
        c0, c1 = (np.clip(column.astype(np.int64) + at, 0, width - 1)[:, None] for at in (2, 3))
        r0, r1 = (np.clip(row.astype(np.int64) + at, 0, height - 1)[:, :, None] for at in (2, 3))
        above = padded[r0, c0] * (1 - fx) + padded[r0, c1] * fx
        below = padded[r1, c0] * (1 - fx) + padded[r1, c1] * fx
        patches[start : start + _BLOCK] = above * (1 - fy) + below * fy
    return patches.reshape(*centres.shape[:-1], patch_size, patch_size)
