"""Stacks of patterns alone: NPY, MATLAB, TIFF, CBF and EDF; files, or folders of numbered ones."""

import re
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from typing_extensions import override

from ptychostream.datasets.sources.arrays import describe, listing, read_array
from ptychostream.datasets.sources.file_patterns import FilePatterns
from ptychostream.datasets.sources.mapped import parse_map, propose
from ptychostream.datasets.sources.parts import ScanParts
from ptychostream.errors import DataContractError, MissingPartError
from ptychostream.files import reading
from ptychostream.pattern_sources import ArrayPatterns, OpenedPatterns, PatternSource

_TIFF = (".tif", ".tiff")
_FABIO = (".cbf", ".edf", ".img", ".mccd", ".sfrm")


def is_stack(path: Path) -> bool:
    """Return whether a path is a stack of patterns, or a folder that holds nothing but images."""
    if path.is_dir():
        return bool(_images_of(path))
    suffix = path.suffix.lower()
    if suffix == ".npy":
        try:
            return np.load(path, mmap_mode="r", allow_pickle=False).ndim in (3, 4)
        except (ValueError, OSError):
            return False
    if suffix == ".mat":
        return _is_classic_matlab(path)
    return suffix in (*_TIFF, *_FABIO)


def _is_classic_matlab(path: Path) -> bool:
    with path.open("rb") as stream:
        return stream.read(19) == b"MATLAB 5.0 MAT-file"


def _images_of(folder: Path) -> list[Path]:
    """List the images of a folder in the order of their numbers, where there are several alike."""
    found = [entry for entry in folder.iterdir() if entry.suffix.lower() in (*_TIFF, *_FABIO)]
    others = [
        entry for entry in folder.iterdir() if entry.suffix.lower() in (".npz", ".h5", ".cxi")
    ]
    if len(found) < 2 or others or len({entry.suffix.lower() for entry in found}) > 1:
        return []
    return sorted(found, key=_by_number)


def _by_number(path: Path) -> tuple[Any, ...]:
    return tuple(int(part) if part.isdigit() else part for part in re.split(r"(\d+)", path.name))


def read_stack(path: Path, measurement_domain: Any = None) -> ScanParts:
    """Read a stack of patterns; positions and probe come from elsewhere."""
    if path.is_dir():
        patterns: PatternSource = ImagePatterns(_images_of(path))
    elif path.suffix.lower() == ".npy":
        patterns = _from_npy(path)
    elif path.suffix.lower() == ".mat":
        patterns = _from_matlab(path)
    elif path.suffix.lower() in _TIFF:
        patterns = TiffPatterns(path)
    else:
        patterns = ImagePatterns([path])
    return ScanParts(
        name=f"'{path}'",
        patterns=patterns,
        measurement_domain=measurement_domain,
        provenance={"format": "stack", "file": path.name},
    )


def _from_npy(path: Path) -> PatternSource:
    array = np.load(path, mmap_mode="r", allow_pickle=False)
    if not array.flags.c_contiguous:
        return ArrayPatterns(array.reshape(-1, *array.shape[-2:]))
    shape = (int(np.prod(array.shape[:-2])), array.shape[-2], array.shape[-1])
    return FilePatterns(path, shape, array.dtype, int(array.offset))


def _from_matlab(path: Path) -> PatternSource:
    found = listing(path)
    names = parse_map(propose(found)) if propose(found) else {}
    stacks = [name for name, (shape, _) in found.items() if len(shape) in (3, 4)]
    if "diff3d" not in names and len(stacks) != 1:
        raise DataContractError(
            f"'{path}' holds {describe(found)}; say which are the patterns: --map diff3d=NAME"
        )
    array = read_array(path, names.get("diff3d", stacks[0]))[0]
    # MATLAB's stacks often have the number of the pattern last.
    if array.ndim == 3 and array.shape[0] == array.shape[1] != array.shape[2]:
        array = np.moveaxis(array, -1, 0)
    return ArrayPatterns(np.ascontiguousarray(array.reshape(-1, *array.shape[-2:])))


class TiffPatterns(OpenedPatterns):
    """The pages of a TIFF file."""

    def __init__(self, path: Path) -> None:
        self._path = path
        with _tifffile().TiffFile(path) as file:
            series = file.series[0]
            if len(series.shape) < 2:
                raise DataContractError(f"'{path}' holds no images: {series.shape}")
            number = int(np.prod(series.shape[:-2]))
            self._shape = (number, int(series.shape[-2]), int(series.shape[-1]))
            self._dtype = np.dtype(series.dtype)

    @override
    def read(self, rows: NDArray[np.int64]) -> NDArray[Any]:
        rows = np.asarray(rows)
        out = np.empty((len(rows), *self._shape[1:]), self._dtype)
        with _tifffile().TiffFile(self._path) as file:
            if len(file.pages) == self._shape[0]:
                for place, row in enumerate(rows):
                    out[place] = file.pages[int(row)].asarray()
            else:
                out[...] = file.series[0].asarray().reshape(self._shape)[rows]
        return out


class ImagePatterns(OpenedPatterns):
    """Numbered image files, one pattern each."""

    def __init__(self, paths: list[Path]) -> None:
        self._paths = paths
        first = _read_image(paths[0])
        self._shape = (len(paths), *first.shape[-2:])
        self._dtype = first.dtype

    @override
    def read(self, rows: NDArray[np.int64]) -> NDArray[Any]:
        out = np.empty((len(rows), *self._shape[1:]), self._dtype)
        for place, row in enumerate(np.asarray(rows)):
            image = _read_image(self._paths[int(row)])
            if image.shape != self._shape[1:] or image.dtype != self._dtype:
                raise DataContractError(
                    f"'{self._paths[int(row)]}' is {image.shape} {image.dtype}, but "
                    f"'{self._paths[0]}' is {self._shape[1:]} {self._dtype}"
                )
            out[place] = image
        return out


def _read_image(path: Path) -> NDArray[Any]:
    with reading(path):
        if path.suffix.lower() in _TIFF:
            image = _tifffile().imread(path)
        else:
            image = _fabio().open(str(path)).data
    image = np.asarray(image)
    if image.ndim != 2:
        raise DataContractError(f"'{path}' is {image.shape}, expected one image (H, W)")
    return image


def _tifffile() -> Any:
    try:
        import tifffile
    except ImportError as error:
        raise MissingPartError(
            "reading TIFF needs tifffile: pip install 'ptychostream[formats]'"
        ) from error
    return tifffile


def _fabio() -> Any:
    try:
        import fabio
    except ImportError as error:
        raise MissingPartError(
            "reading CBF and EDF needs fabio: pip install 'ptychostream[formats]'"
        ) from error
    return fabio
