"""Scan files: one reader a file, one registry, chosen by content."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from ptychostream.datasets.sources.assemble import assemble
from ptychostream.datasets.sources.chosen_probe import ProbeFinder
from ptychostream.datasets.sources.cxi import is_cxi, read_cxi
from ptychostream.datasets.sources.npz import is_npz, read_npz
from ptychostream.datasets.sources.options import InputOptions, with_metadata_file
from ptychostream.datasets.sources.other_formats import OTHER_READERS, read_unknown
from ptychostream.datasets.sources.parts import ScanParts
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

__all__ = [
    "READERS",
    "InputOptions",
    "ScanParts",
    "SourceReader",
    "find_format",
    "read_parts",
    "read_scan",
]


class SourceReader(NamedTuple):
    """How a file format is recognised and read.

    Attributes
    ----------
    recognises : callable
        Whether a path holds this format, by its content.
    read : callable
        Returns what the path holds: a `Scan`, or `ScanParts` where something may be missing.
    """

    recognises: Callable[[Path], bool]
    read: Callable[[Path, MeasurementDomain | None], Scan | ScanParts]


READERS: dict[str, SourceReader] = {
    "npz": SourceReader(is_npz, read_npz),
    "ptychodus_product": SourceReader(is_ptychodus_product, read_ptychodus_product),
    "cxi": SourceReader(is_cxi, read_cxi),
    "ptychodus_training": SourceReader(is_ptychodus_training, read_ptychodus_training),
    **{name: SourceReader(*functions) for name, functions in OTHER_READERS.items()},
}


def read_scan(
    path: str | Path,
    *,
    format: str | None = None,
    measurement_domain: MeasurementDomain | None = None,
    options: InputOptions | None = None,
    find_probe: ProbeFinder | None = None,
    spare_probe: NDArray[np.complex64] | None = None,
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
    options : InputOptions, optional
        What else is read, and how it is changed.
    find_probe : callable, optional
        Makes the probe of `InputOptions(probe="from_patterns")`, from the scan and the options.
    spare_probe : (P, N, N) complex64, optional
        Probe where neither the file nor an option gives one.

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
    chosen = options_with(options, format=format, measurement_domain=measurement_domain)
    path = Path(path)
    parts = read_parts(path, chosen)
    with reading(path):
        if parts.probe is None and spare_probe is not None:
            parts = replace(parts, probe=spare_probe)
        return assemble(parts, chosen, find_probe=find_probe)


def options_with(
    options: InputOptions | None,
    *,
    format: str | None = None,
    measurement_domain: MeasurementDomain | None = None,
) -> InputOptions:
    """Complete options by what was given beside them, and by the file that they name."""
    chosen = options or InputOptions()
    if format is not None:
        chosen = replace(chosen, format=format)
    if measurement_domain is not None:
        chosen = replace(chosen, measurement_domain=measurement_domain)
    return with_metadata_file(chosen)


def read_parts(path: Path, options: InputOptions) -> ScanParts:
    """Read what a file holds of a scan, unchecked.

    Raises
    ------
    MissingFileError
        If there is no such file.
    DataContractError
        If the format is unknown, or the file is damaged.
    """
    if not path.exists():
        raise MissingFileError(f"no scan file '{path}'")
    if path.is_file() and not path.stat().st_size:
        raise DataContractError(f"'{path}' is empty, 0 bytes; copy it again")
    name = options.format
    if name is not None and name not in READERS:
        raise DataContractError(f"no format {name!r}; there are {', '.join(sorted(READERS))}")
    if options.reader is None and options.map is None and name is None:
        name = find_format(path)
    with reading(path):
        if name is None:
            return read_unknown(path, options, known=sorted(READERS))
        found = READERS[name].read(path, options.measurement_domain)
    return ScanParts.of(found) if isinstance(found, Scan) else found


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
