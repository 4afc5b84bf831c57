"""Arrays named as FILE::PATH, in whatever file they lie."""

from pathlib import Path
from typing import Any

import h5py
import numpy as np
from numpy.typing import NDArray

from ptychostream.datasets.sources.hdf5_links import check_sources, find, open_linked_hdf5
from ptychostream.datasets.sources.hdf5_patterns import is_hdf5
from ptychostream.datasets.sources.npz_members import NpzMembers
from ptychostream.datasets.sources.units import unit_of
from ptychostream.errors import ConfigurationError, DataContractError, MissingFileError
from ptychostream.files import reading

_IMAGES = (".tif", ".tiff", ".png", ".bmp")


def split_name(text: str, *, option: str) -> tuple[Path, str]:
    """Split FILE::PATH into an existing file and the path in it, which may be empty."""
    name, _, inside = str(text).partition("::")
    path = Path(name)
    if not path.exists():
        raise MissingFileError(f"{option}: no file '{path}'")
    return path, inside.strip()


def listing(path: Path) -> dict[str, tuple[tuple[int, ...], str]]:
    """List the arrays of a file: their names, with shape and data type."""
    if is_hdf5(path):
        found: dict[str, tuple[tuple[int, ...], str]] = {}
        with open_linked_hdf5(path) as file:
            file.visititems(lambda name, item: _note(found, name, item))
            for name in file:
                # Links are not visited.
                item = file.get(name)
                if item is not None:
                    _note(found, name, item)
        return found
    if path.suffix == ".mat":
        from scipy.io import whosmat

        return {name: (tuple(shape), kind) for name, shape, kind in whosmat(path)}
    if path.suffix == ".npy":
        array = np.load(path, mmap_mode="r", allow_pickle=False)
        return {path.stem: (array.shape, str(array.dtype))}
    members = NpzMembers(path)
    return {key: (members.shape(key), str(members.dtype(key))) for key in members.keys()}  # noqa: SIM118


def _note(found: dict[str, tuple[tuple[int, ...], str]], name: str, item: Any) -> None:
    if isinstance(item, h5py.Dataset):
        found[name] = (item.shape, str(item.dtype))


def read_array(path: Path, inside: str) -> tuple[NDArray[Any], str | None]:
    """Read an array of a file, with its unit where the file says it.

    `inside`: path or key in the file; may be empty where the file holds one array.
    """
    suffix = path.suffix.lower()
    with reading(path):
        if is_hdf5(path):
            with open_linked_hdf5(path) as file:
                data = find(file, inside or _only(listing(path), path), path)
                if not isinstance(data, h5py.Dataset):
                    raise _lacks(path, inside)
                check_sources(data, path)
                return np.asarray(data[()]), unit_of(data.attrs)
        if suffix == ".npy":
            return np.load(path, allow_pickle=False), None
        if suffix == ".npz":
            members = NpzMembers(path)
            key = inside or _only(listing(path), path)
            if key not in members:
                raise _lacks(path, inside)
            return members.read(key), None
        if suffix == ".mat":
            from scipy.io import loadmat

            key = inside or _only(listing(path), path)
            content = loadmat(path, variable_names=[key])
            if key not in content:
                raise _lacks(path, inside)
            return np.asarray(content[key]), None
        if suffix in _IMAGES:
            from skimage.io import imread

            return np.asarray(imread(path)), None
    raise ConfigurationError(
        f"'{path}' is no file of arrays; arrays are read from HDF5, NPZ, NPY, MATLAB and TIFF"
    )


def _only(found: dict[str, Any], path: Path) -> str:
    if len(found) == 1:
        return next(iter(found))
    raise DataContractError(
        f"'{path}' holds several arrays: {describe(found)}; name one as {path}::NAME"
    )


def _lacks(path: Path, inside: str) -> DataContractError:
    return DataContractError(
        f"'{path}' has no array '{inside}'; it holds {describe(listing(path))}"
    )


def describe(found: dict[str, tuple[tuple[int, ...], str]]) -> str:
    """List arrays with their shapes in a sentence."""
    names = [
        f"{name} {' x '.join(map(str, shape)) or 'scalar'}" for name, (shape, _) in found.items()
    ]
    more = f" and {len(names) - 30} more" if len(names) > 30 else ""
    return ", ".join(names[:30]) + more if names else "no arrays"
