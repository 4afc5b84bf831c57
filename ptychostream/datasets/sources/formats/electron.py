"""4D-STEM files (MIB, EMPAD, EMD, DM, …), read by RosettaSciIO."""

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from typing_extensions import override

from ptychostream.datasets.sources.parts import ScanParts
from ptychostream.datasets.sources.units import convert
from ptychostream.errors import DataContractError, MissingPartError
from ptychostream.pattern_sources import OpenedPatterns

#: Endings of 4D-STEM data; others belong to formats that are read without RosettaSciIO.
_ENDINGS = {
    ".mib": "quantumdetector",
    ".dm3": "digitalmicrograph",
    ".dm4": "digitalmicrograph",
    ".emd": "emd",
    ".hspy": "hspy",
    ".zspy": "zspy",
    ".blo": "blockfile",
    ".xml": "empad",
    ".prz": "pantarhei",
    ".mrc": "mrc",
}


def is_electron(path: Path) -> bool:
    """Return whether a file has the ending of a 4D-STEM format."""
    return path.suffix.lower() in _ENDINGS


def read_electron(path: Path, measurement_domain: Any = None) -> ScanParts:
    """Read the first data set of four or three dimensions; positions from the scan's axes."""
    import importlib

    try:
        reader = importlib.import_module(f"rsciio.{_ENDINGS[path.suffix.lower()]}")
    except ImportError as error:
        raise MissingPartError(
            f"reading '{path.suffix}' needs RosettaSciIO: pip install 'ptychostream[formats]'"
        ) from error
    try:
        content = reader.file_reader(str(path), lazy=True)
    except AttributeError as error:
        # RosettaSciIO reads ZSPY with zarr 2, and stores of ours need zarr 3.
        if "zarr" not in str(error):
            raise
        raise DataContractError(
            f"'{path}': RosettaSciIO can't read it with the zarr that is installed ({error}); save "
            "it as HSPY in HyperSpy, signal.save('scan.hspy')"
        ) from error
    sets = [found for found in content if found["data"].ndim >= 3]
    if not sets:
        raise DataContractError(f"'{path}' holds no stack of patterns")
    data, axes = sets[0]["data"], sets[0]["axes"]
    positions, unit, shape = None, "px", None
    if data.ndim == 4:
        shape = (int(data.shape[0]), int(data.shape[1]))
        steps = [float(axis.get("scale") or 1.0) for axis in axes[:2]]
        units = [str(axis.get("units") or "") for axis in axes[:2]]
        if all(text in ("m", "mm", "um", "µm", "nm", "pm", "Å", "A") for text in units):
            metres = [
                float(convert(step, text, "m", where=f"'{path}'"))
                for step, text in zip(steps, units, strict=True)
            ]
            rows, columns = np.indices(shape).reshape(2, -1)
            positions = np.stack([columns * metres[1], rows * metres[0]], axis=1)
            unit = "m"
    return ScanParts(
        name=f"'{path}'",
        patterns=LazyPatterns(data),
        measurement_domain=measurement_domain,
        positions=positions,
        position_unit="m" if unit == "m" else "px",
        scan_shape=shape,
        provenance={"format": "4D-STEM", "file": path.name},
        looked_for={"positions": "does not say the steps of its scan"},
    )


class LazyPatterns(OpenedPatterns):
    """Patterns of a dask array, which is computed where it is read."""

    def __init__(self, array: Any) -> None:
        self._array = array.reshape(-1, *array.shape[-2:])
        number, height, width = self._array.shape
        self._shape = int(number), int(height), int(width)
        self._dtype = np.dtype(array.dtype)

    @override
    def read(self, rows: NDArray[np.int64]) -> NDArray[Any]:
        found = self._array[np.asarray(rows)]
        return np.asarray(found.compute() if hasattr(found, "compute") else found)
