"""The table of many results: a line an experiment, as CSV and as a page."""

import csv
import json
import statistics
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from ptychostream.evaluation.overview import write_overview
from ptychostream.evaluation.report import RECORD
from ptychostream.files import whole_file

#: The table.
SUMMARY = "summary.csv"

#: Its columns: which experiment, how well it fits, what to know of it.
COLUMNS = (
    "experiment",
    "name",
    "patterns",
    "misfit",
    "half_period_px",
    "explained",
    "skill",
    "seconds",
    "warnings",
)

#: Numbers of a result's record that the table takes as they are, and the digits it shows.
_NUMBERS = {
    "patterns": 0,
    "misfit": 5,
    "half_period_px": 2,
    "explained": 4,
    "skill": 4,
    "seconds": 2,
}

Row = Mapping[str, Any]


def folder_of(out: Path, experiment: int) -> Path:
    """Return the folder of one experiment's result."""
    return out / f"experiment-{experiment:04d}"


def record_of(folder: Path) -> dict[str, Any] | None:
    """Return the record of a result; None where there is none that can be read."""
    try:
        record = json.loads((folder / RECORD).read_text())
    except (OSError, ValueError):
        return None
    return record if isinstance(record, dict) else None


def row_of_result(experiment: int, name: str, folder: Path) -> Row | None:
    """Return the line of an experiment's result; None where there is none, or a partial one."""
    record = record_of(folder)
    if record is None or record.get("is_partial"):
        return None
    numbers = {key: record.get(key) for key in _NUMBERS}
    rounded = {
        key: value if value is None or not digits else round(value, digits)
        for (key, value), digits in zip(numbers.items(), _NUMBERS.values(), strict=True)
    }
    warnings = "; ".join(map(str, record.get("warnings", ())))
    return {"experiment": experiment, "name": name, **rounded, "warnings": warnings}


def row_of_failure(experiment: int, name: str, message: str) -> Row:
    """Return the line of an experiment that could not be reconstructed."""
    return {"experiment": experiment, "name": name, "warnings": f"failed: {message}"}


def is_failure(row: Row) -> bool:
    """Return whether a line is that of an experiment without a result."""
    return str(row["warnings"]).startswith("failed: ")


class Summary:
    """The table of a run: each line is written when it is known, so that a run can be watched."""

    def __init__(self, folder: Path, rows: Iterable[Row] = ()) -> None:
        self._folder = folder
        self._rows: dict[int, Row] = {row["experiment"]: row for row in rows}
        self._write()

    def add(self, row: Row) -> None:
        """Add a line at the end."""
        self._rows[row["experiment"]] = row
        with (self._folder / SUMMARY).open("a", newline="") as stream:
            csv.DictWriter(stream, COLUMNS).writerow(row)

    def failures(self) -> list[Row]:
        """Return the lines of experiments without a result."""
        return [row for row in self._sorted() if is_failure(row)]

    def finish(self, title: str) -> None:
        """Write the table in the order of the experiments, and the page."""
        self._write()
        rows = self._sorted()
        misfits = [row["misfit"] for row in rows if row.get("misfit") is not None]
        tiles = [
            ("experiments", f"{len(rows):,}"),
            ("failed", f"{len(self.failures()):,}"),
            ("with warnings", f"{sum(bool(row['warnings']) for row in rows):,}"),
            *([("median misfit R", f"{statistics.median(misfits):.3f}")] if misfits else []),
        ]
        links = {
            row["experiment"]: folder_of(Path(), row["experiment"]).name
            for row in rows
            if not is_failure(row)
        }
        write_overview(self._folder, title, tiles, COLUMNS, rows, links)

    def _sorted(self) -> list[Row]:
        return [self._rows[number] for number in sorted(self._rows)]

    def _write(self) -> None:
        with (
            whole_file(self._folder / SUMMARY) as partial,
            partial.open("w", newline="") as stream,
        ):
            writer = csv.DictWriter(stream, COLUMNS)
            writer.writeheader()
            writer.writerows(self._sorted())
