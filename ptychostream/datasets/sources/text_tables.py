"""Tables of numbers in text: CSV and its kin, and the scans of a SPEC file."""

import re
from collections import Counter
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from ptychostream.errors import DataContractError

#: Scans that a message lists, at most.
_LISTED = 12

#: Bytes in which a SPEC file shows that it is one.
_HEAD = 4096


@dataclass(frozen=True, eq=False)
class TextTable:
    """A table (K, C) with the names of its columns, which may be missing."""

    names: list[str]
    values: NDArray[np.float64]


@dataclass
class _Lines:
    """What was read of one table; `scan` is its number in a SPEC file, or nothing."""

    scan: str = ""
    names: list[str] = field(default_factory=list)
    rows: list[list[float]] = field(default_factory=list)


def is_spec(path: Path) -> bool:
    """Return whether a file begins as SPEC writes it, whatever its name."""
    if not path.is_file():
        return False
    with path.open("rb") as file:
        head = file.read(_HEAD).lstrip()
    return head.startswith((b"#F ", b"#S "))


def split_scan(inside: str) -> tuple[str, str]:
    """Split `SCAN::X,Y`, `SCAN` or `X,Y` into the number of a scan and columns; both may be empty.

    Examples
    --------
    >>> split_scan("42::samx,samy"), split_scan("samx,samy"), split_scan("42")
    (('42', 'samx,samy'), ('', 'samx,samy'), ('42', ''))
    """
    scan, is_split, columns = inside.partition("::")
    if is_split:
        return scan.strip(), columns.strip()
    is_number = re.fullmatch(r"\d+(\.\d+)?", inside.strip()) is not None
    return (inside.strip(), "") if is_number else ("", inside)


def read_table(path: Path, scan: str = "") -> TextTable:
    """Read the table of a text; of SPEC's scans, the one with that number."""
    found = [_Lines()]
    for line in path.read_text(errors="replace").splitlines():
        text = line.strip()
        if text.startswith("#S "):
            found.append(_Lines(text.split()[1]))
        elif text.startswith("#L "):
            found[-1].names = re.split(r"\s{2,}", text[3:].strip())
        elif text and not text.startswith("@"):
            _take_line(found[-1], text, path)
    lines = _chosen(_numbered([lines for lines in found if lines.rows]), scan, path)
    if len({len(row) for row in lines.rows}) != 1:
        raise DataContractError(f"'{path}' is no table of numbers with rows of one length")
    values = np.array(lines.rows)
    return TextTable(lines.names if len(lines.names) == values.shape[1] else [], values)


def _take_line(lines: _Lines, text: str, path: Path) -> None:
    """Take a row of numbers, or the names of columns before the first."""
    words = re.split(r"[,;\t]" if re.search(r"[,;\t]", text) else r"\s+", text)
    words = [word.strip() for word in words if word.strip()]
    try:
        lines.rows.append([float(word) for word in words])
    except ValueError:
        is_header = not lines.rows and not lines.names and not lines.scan
        if is_header and not text.startswith(("#F", "#E", "#D", "#O", "#P")):
            lines.names = [word.strip('#" ') for word in words if word.strip('#" ')]
        elif not text.startswith("#"):
            raise DataContractError(
                f"'{path}': the line {text[:60]!r} is no row of numbers"
            ) from None


def _numbered(tables: list[_Lines]) -> list[_Lines]:
    """Give scans whose number was used twice the numbers `42.1` and `42.2`."""
    times, seen = Counter(lines.scan for lines in tables), Counter[str]()
    numbered = []
    for lines in tables:
        seen[lines.scan] += 1
        is_repeated = bool(lines.scan) and times[lines.scan] > 1
        scan = f"{lines.scan}.{seen[lines.scan]}" if is_repeated else lines.scan
        numbered.append(replace(lines, scan=scan))
    return numbered


def _chosen(tables: list[_Lines], scan: str, path: Path) -> _Lines:
    """Choose a scan by its number, which has to be said among several."""
    chosen = [lines for lines in tables if scan in ("", lines.scan)]
    if len(chosen) == 1:
        return chosen[0]
    if not tables:
        raise DataContractError(f"'{path}' is no table of numbers with rows of one length")
    if not any(lines.scan for lines in tables):
        raise DataContractError(
            f"'{path}' is one table without numbered scans; leave out '{scan}', or name two "
            f"columns: {path}::X,Y"
        )
    listed = ", ".join(f"{lines.scan} ({len(lines.rows)} points)" for lines in tables[:_LISTED])
    listed += f" and {len(tables) - _LISTED} more" if len(tables) > _LISTED else ""
    if scan:
        raise DataContractError(f"'{path}' has no scan {scan} with points; there are {listed}")
    raise DataContractError(
        f"'{path}' holds {len(tables)} scans: {listed}; say which one: "
        f"{path}::{tables[-1].scan}::X,Y"
    )
