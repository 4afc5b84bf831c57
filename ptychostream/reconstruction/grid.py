"""Choose the pixels that are reconstructed, and where their sums are kept."""

import logging
import tempfile
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from ptychostream.datasets.store import GroupStore
from ptychostream.geometry import ObjectGrid, check_extent, object_grid
from ptychostream.solver.start import rows_of

logger = logging.getLogger(__name__)

#: Bytes per pixel: sums of patches and weights, the object, and its coverage.
_BYTES_PER_PIXEL = 8 + 4 + 8 + 4

#: Rows of the object that are processed together.
_BAND = 1024


def choose_grid(
    store: GroupStore, experiment: int, positions: NDArray[np.float64], *, pads: bool
) -> ObjectGrid:
    """Choose the grid of the scan's object guess, or the smallest one that holds every patch.

    `store`: its object guess decides the grid, unless positions lie outside it: then it is a
        placeholder.
    `positions` (M, 2): scan positions (x, y), in pixels.
    `pads`: whether the guess's grid is made larger where patches reach beyond it.
    """
    guess = store.object_guess_of(experiment)
    if guess is not None:
        grid = ObjectGrid(*guess.shape)
        outside = (positions < 0).any(axis=1) | (positions >= grid.shape[::-1]).any(axis=1)
        if not outside.any():
            if not pads:
                return grid
            least = object_grid(positions, store.N)
            right, bottom = (
                max(a + n, m)
                for a, n, m in zip(least.origin, least.shape[::-1], grid.shape[::-1], strict=True)
            )
            left, top = least.origin
            return ObjectGrid(int(bottom - top), int(right - left), least.origin)
        logger.warning(
            "%d of %d positions lie outside the object guess of %d x %d px: it is taken for a "
            "placeholder, and the grid holds all patches",
            np.count_nonzero(outside),
            len(positions),
            *guess.shape,
        )
    check_extent(positions, store.N, name=f"'{store.path}'")
    return object_grid(positions, store.N)


def grid_of(store: GroupStore, experiments: Sequence[int], *, pads: bool = False) -> ObjectGrid:
    """Choose the grid of one experiment's object, or of that which several share."""
    positions = store.positions[rows_of(store, experiments)]
    if len(experiments) == 1:
        return choose_grid(store, experiments[0], positions, pads=pads)
    check_extent(positions, store.N, name=f"'{store.path}'")
    return object_grid(positions, store.N)


def canvas_folder(grid: ObjectGrid, budget: int, scratch_folder: Path | None) -> Path | None:
    """Return the folder for the sums of an object; None is the memory."""
    size = grid.height * grid.width * _BYTES_PER_PIXEL
    if size <= budget:
        return None
    folder = scratch_folder or Path(tempfile.gettempdir())
    logger.warning(
        "an object of %d x %d px takes %.2g GB, more than canvas_budget: it is kept in files in "
        "'%s'; if it should not be so large, look for a stray position",
        *grid.shape,
        size / 1e9,
        folder,
    )
    return folder


def limit_unlit(obj: NDArray[np.complex64], coverage: NDArray[np.float32]) -> None:
    """Clip amplitudes outside the lit area, where they are arbitrary, to the largest inside."""
    bands = [slice(start, start + _BAND) for start in range(0, obj.shape[-2], _BAND)]
    limit = max(
        (float(np.abs(obj[..., b, :][..., coverage[b] > 0]).max(initial=0)) for b in bands),
        default=0.0,
    )
    for band in bands:
        part = obj[..., band, :]
        size = np.abs(part)
        beyond = (size > limit) & (coverage[band] == 0)
        part[beyond] *= limit / size[beyond]
