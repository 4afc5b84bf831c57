"""Read objects, with the position of their first pixel, from any file that may hold one."""

import math
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ptychostream.datasets.sources.hdf5_patterns import is_hdf5
from ptychostream.datasets.sources.npz_members import NpzMembers
from ptychostream.errors import DataContractError, MissingFileError
from ptychostream.files import reading
from ptychostream.hdf5_files import open_hdf5

#: Keys under which an NPZ file may hold an object, in order of preference.
_KEYS = ("object", "objectGuess")

#: Attributes that place a product's object.
_PLACE = ("center_x_m", "pixel_width_m", "center_y_m", "pixel_height_m")

#: Kinds of data types that are real numbers, and numbers.
_REAL, _NUMBERS = "biuf", "biufc"


def read_object_and_origin(path: Path) -> tuple[NDArray[np.complex64], tuple[float, float]]:
    """Read an object from any file that may hold one.

    `path`: NPZ with `object` (and its `origin`) or `objectGuess`; HDF5 with `object`, as
        ptychodus's products and training data; or an array in `.npy`.
    Returns `object` (H, W).
    Returns `origin`: scan position (x, y) of its first pixel.
    """
    if not path.is_file():
        raise MissingFileError(f"no file '{path}'")
    obj: Any = None
    key, origin = "object", (0.0, 0.0)
    with reading(path):
        if path.suffix in (".h5", ".hdf5") or is_hdf5(path):
            with open_hdf5(path) as file:
                if "object" in file:
                    obj, origin = _read_product(path, file["object"])
        elif path.suffix == ".npy":
            with path.open("rb") as stream:
                obj = np.lib.format.read_array(stream, allow_pickle=False)
        else:
            arrays = NpzMembers(path)
            key = next((key for key in _KEYS if key in arrays), key)
            if key in arrays:
                obj = arrays.read(key)
            if key == "object" and "origin" in arrays:
                origin = checked_origin(path, arrays.read("origin"))
    if obj is None:
        raise DataContractError(
            f"'{path}' holds no object: it holds no array of plain numbers named "
            f"{' or '.join(map(repr, _KEYS))}"
        )
    return checked_object(path, key, np.squeeze(obj)), origin


def checked_object(path: Path | str, key: str, obj: NDArray[Any]) -> NDArray[np.complex64]:
    """Check that an object is a finite image; returns it in single precision."""
    if obj.ndim != 2 or obj.size == 0 or obj.dtype.kind not in _NUMBERS:
        raise DataContractError(
            f"'{path}': '{key}' is {obj.shape} {obj.dtype}, expected (H, W) complex"
        )
    with np.errstate(over="ignore"):
        single = np.asarray(obj, dtype=np.complex64)
    wrong = np.argwhere(~np.isfinite(single))
    if len(wrong):
        row, column = wrong[0]
        raise DataContractError(
            f"'{path}': '{key}' holds {len(wrong)} values that are not finite, the first at row "
            f"{row}, column {column}"
        )
    return single


def checked_origin(path: Path, origin: NDArray[Any]) -> tuple[float, float]:
    """Check that an origin is a finite position (x, y)."""
    if origin.shape != (2,) or origin.dtype.kind not in _REAL or not np.isfinite(origin).all():
        raise DataContractError(
            f"'{path}': 'origin' is {np.array2string(origin, threshold=4)}, expected (x, y), two "
            "finite numbers"
        )
    return float(origin[0]), float(origin[1])


def _read_product(path: Path, dataset: Any) -> tuple[NDArray[Any], tuple[float, float]]:
    """Object of a product, and the position (x, y) of its first pixel."""
    shape = getattr(dataset, "shape", None)
    if not shape or dataset.dtype.kind not in _NUMBERS:
        found = f"{shape} {dataset.dtype}" if hasattr(dataset, "dtype") else "no array but a group"
        raise DataContractError(f"'{path}': 'object' is {found}, expected (H, W) complex")
    try:
        origin = _origin_of(dataset)
    except (TypeError, ValueError, OverflowError) as error:
        attributes = {name: dataset.attrs.get(name) for name in _PLACE}
        raise DataContractError(
            f"'{path}': the attributes of 'object' are {attributes}, expected a finite number each"
        ) from error
    return np.asarray(dataset[:]), origin


def _origin_of(dataset: Any) -> tuple[float, float]:
    """Position (x, y) of the first pixel of a product's object, in its pixels."""
    height, width = dataset.shape[-2:]
    origin = []
    for axis, edge, size in (("x", "width", width), ("y", "height", height)):
        centre = dataset.attrs.get(f"center_{axis}_m")
        pixel = dataset.attrs.get(f"pixel_{edge}_m")
        if centre is None or not pixel:
            return 0.0, 0.0
        first = float(centre / pixel) - (size - 1) / 2
        if not math.isfinite(first):
            raise ValueError(f"{centre} / {pixel}")
        origin.append(round(first, 6))
    return origin[0], origin[1]
