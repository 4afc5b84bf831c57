"""Cut true patches, the labels, out of known objects."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from ptychostream.patches import extract_patches

#: Zeros around the padded object that a patch may reach into, besides half a patch.
_MARGIN = 2
#: Patches cut at once: 256 patches of 64 × 64 px are 8 MiB.
_BLOCK = 256


def cut_labels(
    obj: NDArray[np.complex64], centres: NDArray[np.float64], patch_size: int
) -> NDArray[np.complex64]:
    """Cut the true patches (B, N, N, C) at positions (B, C, 2) in pixels; zero outside."""
    canvas = torch.as_tensor(np.ascontiguousarray(obj, np.complex64))
    groups = torch.as_tensor(np.asarray(centres, np.float64))
    number, size = groups.shape[:2]
    patches = np.empty((number, patch_size, patch_size, size), np.complex64)
    length = max(1, _BLOCK // size)
    for start in range(0, number, length):
        here = slice(start, start + length)
        cut = extract_patches(canvas, groups[here].flatten(0, 1), patch_size)
        patches[here] = cut.reshape(-1, size, *cut.shape[1:]).movedim(1, -1).numpy()
    return patches


def cut_labels_of_experiments(
    objects: Sequence[NDArray[np.complex64] | None],
    experiment: NDArray[np.int64],
    centres: NDArray[np.float64],
    patch_size: int,
) -> NDArray[np.complex64] | None:
    """Cut the true patches (B, N, N, C) of groups; None where an experiment has no object."""
    if any(obj is None for obj in objects):
        return None
    patches = np.empty((len(centres), patch_size, patch_size, centres.shape[1]), np.complex64)
    for number, obj in enumerate(objects):
        rows = experiment == number
        if obj is not None and rows.any():
            patches[rows] = cut_labels(obj, centres[rows], patch_size)
    return patches


def cut_in_single_precision(
    obj: NDArray[Any], centres: NDArray[np.float64], patch_size: int
) -> NDArray[Any]:
    """Cut patches (M, N, N) at (M, 2) with PtychoPINN's rounding.

    It adds up the coordinates in the padded object in float32, which moves a patch by some 1e-6 of
    a pixel; `patches.extract_patches` does not round them.
    """
    padded = np.pad(np.asarray(obj), patch_size // 2 + _MARGIN)
    span = np.arange(patch_size, dtype=np.float32)
    patches = np.empty((len(centres), patch_size, patch_size), padded.dtype)
    for number, (x, y) in enumerate(np.asarray(centres, np.float32)):
        patches[number] = _interpolate(padded, x + span, y + span)
    return patches


def _interpolate(
    padded: NDArray[Any], columns: NDArray[np.float32], rows: NDArray[np.float32]
) -> NDArray[Any]:
    """Interpolate between pixels, which rounding may skip; zero outside."""
    height, width = padded.shape
    left, top = np.floor(columns), np.floor(rows)
    fx, fy = columns - left, (rows - top)[:, None]
    first_column, first_row = left.astype(np.int64) + _MARGIN, top.astype(np.int64) + _MARGIN
    at = [np.clip(first_column + step, 0, width - 1) for step in (0, 1)]
    upper, lower = (
        (1 - fx) * line[:, at[0]] + fx * line[:, at[1]]
        for line in (padded[np.clip(first_row + step, 0, height - 1)] for step in (0, 1))
    )
    patch: NDArray[Any] = (1 - fy) * upper + fy * lower
    return patch
