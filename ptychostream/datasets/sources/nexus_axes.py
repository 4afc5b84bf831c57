"""Directions of a detector's rows and columns, as CXI and NeXus files describe them."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import h5py
import numpy as np
from numpy.typing import NDArray

from ptychostream.datasets.sources.hdf5_links import find
from ptychostream.datasets.sources.preprocess import Orientation
from ptychostream.errors import DataContractError

#: Degrees by which a detector may be turned in its plane and still be taken for upright.
_TILTED = 10.0

#: Names of the symmetries by whether rows and columns are exchanged first, and whether rows and
#: columns are then mirrored.
_NAMES: dict[tuple[bool, bool, bool], Orientation] = {
    (False, False, False): "identity",
    (False, True, False): "flip_y",
    (False, False, True): "flip_x",
    (False, True, True): "rot180",
    (True, False, False): "transpose",
    (True, True, False): "rot90",
    (True, False, True): "rot270",
    (True, True, True): "anti_transpose",
}


def orientation_of(file: Any, detectors: Sequence[str], path: Path) -> Orientation | None:
    """Find how patterns are turned to have rows downwards and columns to the right.

    Returns None where the file says nothing of it.
    """
    for detector in detectors:
        basis = find(file, f"{detector}/basis_vectors", path)
        if isinstance(basis, h5py.Dataset):
            vectors = np.asarray(basis[()], np.float64)
            if vectors.ndim == 3:
                vectors = vectors[0]
            if vectors.shape == (3, 2):
                vectors = vectors.T
            return _name_of(vectors, f"'{path}': '{detector}/basis_vectors'")
        axes = [
            _vector(find(file, f"{detector}{module}/{axis}_pixel_direction", path))
            for module in _modules(file, detector)
            for axis in ("slow", "fast")
        ]
        if len(axes) >= 2 and axes[0] is not None and axes[1] is not None:
            where = f"'{path}': '{detector}' (pixel directions)"
            return _name_of(np.array(axes[:2]), where)
    return None


def _modules(file: Any, detector: str) -> list[str]:
    """List the groups under a detector that may hold the directions of its pixels."""
    return ["", *(f"/{name}" for name in file[detector] if "module" in name)]


def _vector(data: Any) -> NDArray[np.float64] | None:
    vector = None if data is None else data.attrs.get("vector")
    return None if vector is None else np.asarray(vector, np.float64).ravel()[:3]


def _name_of(vectors: NDArray[np.float64], where: str) -> Orientation:
    """Name the symmetry of a slow and a fast direction; x points to the left, y up, z along."""
    if not np.isfinite(vectors).all():
        raise DataContractError(
            f"{where} holds NaN or infinite values; correct them, or remove them and give "
            "--orientation"
        )
    if vectors.shape[0] != 2 or vectors.shape[1] not in (2, 3):
        raise DataContractError(
            f"{where} is {vectors.shape}, expected the slow and the fast direction, (2, 3)"
        )
    slow, fast = vectors[:, :2]
    angle = float(np.degrees(np.arctan2(*np.sort(np.abs(fast)))))
    if angle > _TILTED:
        raise DataContractError(
            f"{where}: the detector is turned by {angle:.0f} degrees in its plane (fast direction "
            f"{fast.tolist()}); remove basis_vectors, give --orientation for the nearest multiple "
            "of 90 degrees, and turn the positions by the rest with --scan_rotation"
        )
    exchanged = abs(slow[0]) > abs(slow[1])
    if exchanged != bool(abs(fast[1]) > abs(fast[0])) or not slow.any() or not fast.any():
        raise DataContractError(
            f"{where}: the slow direction {slow.tolist()} and the fast one {fast.tolist()} are not "
            "perpendicular; correct them, or remove them and give --orientation"
        )
    rows, columns = (fast, slow) if exchanged else (slow, fast)
    return _NAMES[bool(exchanged), bool(rows[1] > 0), bool(columns[0] > 0)]
