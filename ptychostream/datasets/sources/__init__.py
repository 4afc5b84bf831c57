"""Scan files: one reader a file, one registry, chosen by content."""

from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

from ptychostream.datasets.sources.cxi import is_cxi, read_cxi
from ptychostream.datasets.sources.npz import is_npz, read_npz
from ptychostream.datasets.sources.ptychodus.experiment import (
    is_ptychodus_product,
    read_ptychodus_product,
)
from ptychostream.datasets.sources.ptychodus.training import (
    is_ptychodus_training,
    read_ptychodus_training,
)
from ptychostream.errors import DataContractError, MissingFileError
from ptychostream.files import reading
from ptychostream.scan import MeasurementDomain, Scan

__all__ = ["READERS", "SourceReader", "find_format", "read_scan"]


class SourceReader(NamedTuple):
    """How a file format is recognised and read.

    Attributes
    ----------
    recognises : callable
        Whether a path holds this format, by its content.
    """

    recognises: Callable[[Path], bool]
    read: Callable[[Path, MeasurementDomain | None], Scan]


READERS: dict[str, SourceReader] = {
    "npz": SourceReader(is_npz, read_npz),
    "ptychodus_product": SourceReader(is_ptychodus_product, read_ptychodus_product),
    "cxi": SourceReader(is_cxi, read_cxi),
    "ptychodus_training": SourceReader(is_ptychodus_training, read_ptychodus_training),
}


def read_scan(
    path: str | Path,
    *,
    format: str | None = None,
    measurement_domain: MeasurementDomain | None = None,
) -> Scan:
    """Read a scan file; patterns stay on disk until they are asked for.

    Parameters
    ----------
    path : str or Path
        The file.
    format : str, optional
        A key of `READERS`; None recognises the format by content.
    measurement_domain : str, optional
        `counts` or `amplitude`, where the file does not say it or says it wrongly.

    Returns
    -------
    Scan
        The scan, checked.

    Raises
    ------
    MissingFileError
        If there is no such file.
    DataContractError
        If the format is unknown, or the file breaks its contract.
    """
    path = Path(path)
    if not path.exists():
        raise MissingFileError(f"no scan file '{path}'")
    if format is not None and format not in READERS:
        raise DataContractError(f"no format {format!r}; there are {', '.join(sorted(READERS))}")
    name = format or find_format(path)
    if name is None:
        raise DataContractError(
            f"'{path}' is in no known scan format; known are {', '.join(sorted(READERS))}"
        )
    with reading(path):
        return READERS[name].read(path, measurement_domain)


def find_format(path: Path) -> str | None:
    """Recognise a scan file's format by its content.

    Raises
    ------
    DataContractError
        If the file is damaged.
    """
    with reading(path):
        for name, reader in READERS.items():
            if reader.recognises(path):
                return name
    return None
