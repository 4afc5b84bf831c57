"""Objects, probes and positions that lie in files."""

from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ptychostream.datasets.sources.objects import read_object_and_origin
from ptychostream.datasets.sources.ptychodus.conventions import HALF_PIXEL
from ptychostream.errors import (
    ConfigurationError,
    DataContractError,
    MissingFileError,
)
from ptychostream.files import reading
from ptychostream.hdf5_files import open_hdf5
from ptychostream.simulation.objects.texture import stretched, transmission

_HDF5 = (".h5", ".hdf5")
_IMAGES = (".png", ".jpg", ".jpeg", ".tif", ".tiff", ".bmp")
_TABLES = (".csv", ".txt")


def is_file_name(name: str) -> bool:
    """Return whether a name is one of a file, rather than a key of a registry."""
    return Path(name).suffix != ""


def read_object(path: str | Path, options: dict[str, Any]) -> NDArray[np.complex64]:
    """Read an object from an array, an image, or a ptychodus file.

    `path`: `.npy`; `.npz` with `objectGuess`; `.h5` with `object`, as ptychodus's products and
        training data; or a picture, whose grey values are a thickness.
    Returns (H, W).
    """
    path = _existing(path)
    if path.suffix.lower() in _IMAGES:
        from skimage.io import imread

        with reading(path):
            # From memory: imageio leaves a file open that it can't decode. TIFF goes by its name.
            is_tiff = path.suffix.lower() in (".tif", ".tiff")
            picture = path if is_tiff else BytesIO(path.read_bytes())
            grey = np.asarray(imread(picture, as_gray=True), dtype=np.float64)
        thickness = stretched(grey)
        return transmission(thickness, thickness, **options)
    if options:
        raise ConfigurationError(
            f"'{path}' holds the transmission itself; object_options are for pictures"
        )
    if path.suffix != ".npy" and path.suffix not in (".npz", *_HDF5):
        raise _unknown(path, ".npy, .npz or .h5, or be a picture")
    return read_object_and_origin(path)[0]


def read_probe(path: str | Path) -> NDArray[np.complex128]:
    """Read a probe from an array or a ptychodus file.

    Returns (P, N, N): incoherent modes; the first of coherent modes, where a product holds several.
    """
    path = _existing(path)
    values = _read(path, "probeGuess", "probe", np.complex128)
    if values.ndim == 4:
        values = values[0]
    if values.ndim == 2:
        values = values[None]
    if values.ndim != 3:
        raise DataContractError(f"'{path}': the probe is {values.shape}, expected (P, N, N)")
    return values


def read_positions(path: str | Path) -> NDArray[np.float64]:
    """Read scan positions.

    `path`: `.npy` (M, 2); `.npz` with `xcoords` and `ycoords`; `.csv` or `.txt` with two columns;
        or `.h5` of ptychodus, whose half pixel is added.
    Returns (M, 2): positions (x, y) in object pixels.
    """
    path = _existing(path)
    if path.suffix == ".npy":
        values = _read_npy(path, np.float64)
    elif path.suffix in _TABLES:
        try:
            delimiter = "," if path.suffix == ".csv" else None
            values = np.loadtxt(path, delimiter=delimiter, ndmin=2)
        except ValueError as error:
            raise DataContractError(f"'{path}' is no table of numbers: {error}") from error
    elif path.suffix == ".npz":
        values = _columns(
            path, {key: _read(path, key, key, np.float64) for key in ("xcoords", "ycoords")}
        )
    elif path.suffix in _HDF5:
        values = _ptychodus_positions(path)
    else:
        raise _unknown(path, ".npy, .npz, .csv, .txt or .h5")
    if values.ndim != 2 or values.shape[1] != 2 or not np.isfinite(values).all():
        raise DataContractError(
            f"'{path}': positions are {values.shape}, expected (M, 2) finite numbers"
        )
    return values


def _ptychodus_positions(path: Path) -> NDArray[np.float64]:
    with reading(path), open_hdf5(path) as file:
        columns = {}
        if "probe_position_x_px" in file:
            for axis in "xy":
                key = f"probe_position_{axis}_px"
                columns[key] = np.asarray(file[key][:], dtype=np.float64)
        elif "probe_position_x_m" in file and "object" in file:
            target = file["object"]
            for axis, size, length in (
                ("x", "width", target.shape[-1]),
                ("y", "height", target.shape[-2]),
            ):
                key = f"probe_position_{axis}_m"
                metres = np.asarray(file[key][:], np.float64) - target.attrs[f"center_{axis}_m"]
                columns[key] = metres / target.attrs[f"pixel_{size}_m"] + (length - 1) / 2
        else:
            raise DataContractError(f"'{path}' holds no positions; it holds {', '.join(file)}")
    return _columns(path, columns) + HALF_PIXEL


def _columns(path: Path, columns: dict[str, NDArray[np.float64]]) -> NDArray[np.float64]:
    shapes = {values.shape for values in columns.values()}
    if len(shapes) > 1:
        listed = " but ".join(f"{key} {values.shape}" for key, values in columns.items())
        raise DataContractError(f"'{path}' holds {listed}; there must be as many of both")
    return np.stack([*columns.values()], axis=-1)


def _read(
    path: Path, npz_key: str, hdf5_key: str, dtype: type[np.complexfloating | np.floating]
) -> NDArray[Any]:
    key, found = npz_key, ()
    if path.suffix == ".npy":
        return _read_npy(path, dtype)
    with reading(path):
        if path.suffix == ".npz":
            # NumPy leaves a damaged archive open, if it has opened it.
            with path.open("rb") as opened, np.load(opened, allow_pickle=False) as archive:
                if key in archive:
                    return archive[key].astype(dtype)
                found = tuple(archive)
        elif path.suffix in _HDF5:
            key = hdf5_key
            with open_hdf5(path) as file:
                if key in file:
                    return np.asarray(file[key][()]).astype(dtype)
                found = tuple(file)
        else:
            raise _unknown(path, ".npy, .npz or .h5")
    raise DataContractError(f"'{path}' lacks {key!r}; it holds {', '.join(found) or 'nothing'}")


def _read_npy(path: Path, dtype: type[np.complexfloating | np.floating]) -> NDArray[Any]:
    with reading(path), path.open("rb") as file:
        return np.lib.format.read_array(file, allow_pickle=False).astype(dtype)


def _existing(path: str | Path) -> Path:
    path = Path(path)
    if not path.is_file():
        raise MissingFileError(f"no file '{path}'")
    return path


def _unknown(path: Path, endings: str) -> ConfigurationError:
    return ConfigurationError(f"'{path}' must end in {endings}")
