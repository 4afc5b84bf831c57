"""Further formats, and files that are read as an option says."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

from ptychostream.datasets.sources.arrays import describe, listing
from ptychostream.datasets.sources.formats.electron import is_electron, read_electron
from ptychostream.datasets.sources.formats.nsls2_hxn import is_hxn, read_hxn
from ptychostream.datasets.sources.formats.ptychodus_readers import read_with_ptychodus
from ptychostream.datasets.sources.formats.ptychoshelves import (
    is_ptychoshelves,
    read_ptychoshelves,
)
from ptychostream.datasets.sources.formats.ptypy_ptyd import is_ptyd, read_ptyd
from ptychostream.datasets.sources.formats.stacks import is_stack, read_stack
from ptychostream.datasets.sources.mapped import propose, read_mapped
from ptychostream.datasets.sources.options import InputOptions
from ptychostream.datasets.sources.parts import ScanParts
from ptychostream.errors import DataContractError, PtychoStreamError

#: How each format is recognised and read; a format is one file beside this one.
OTHER_READERS: dict[str, tuple[Callable[[Path], bool], Callable[[Path, Any], ScanParts]]] = {
    "ptyd": (is_ptyd, read_ptyd),
    "hxn": (is_hxn, read_hxn),
    "ptychoshelves": (is_ptychoshelves, read_ptychoshelves),
    "electron": (is_electron, read_electron),
    "stack": (is_stack, read_stack),
}

#: Formats that hold patterns only: such a file in a folder of scans is not a scan.
BARE = ("electron", "stack")


def read_unknown(path: Path, options: InputOptions, *, known: list[str]) -> ScanParts:
    """Read a file in no known format as the options say, or refuse it by what it holds."""
    if options.reader is not None:
        return read_with_ptychodus(path, options.reader, options.measurement_domain)
    if options.map is not None:
        return read_mapped(path, options)
    raise DataContractError(_refusal(path, known))


def _refusal(path: Path, known: list[str]) -> str:
    text = f"'{path}' is in no known scan format; known are {', '.join(known)}"
    try:
        found = listing(path) if path.is_file() else {}
    except (PtychoStreamError, OSError, ValueError, NotImplementedError):
        found = {}
    if not found:
        return text
    proposed = propose(found)
    advice = (
        f"try --map {proposed}"
        if proposed
        else "say what is what: --map diff3d=PATH,xcoords=PATH,…"
    )
    return f"{text}. It holds {describe(found)}; {advice}"
