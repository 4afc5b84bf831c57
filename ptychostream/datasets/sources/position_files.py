"""Positions out of files of their own: tables, HDF5, NPZ, NPY, MATLAB and SPEC."""

import re
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from ptychostream.datasets.sources.arrays import describe, listing, read_array, split_name
from ptychostream.errors import DataContractError
from ptychostream.files import reading

_TABLES = (".csv", ".txt", ".dat", ".tsv", ".spec", ".asc")

#: Pairs of names under which positions lie, the first that a file holds count.
_PAIRS = (
    ("xcoords", "ycoords"),
    ("probe_position_x_px", "probe_position_y_px"),
    ("probe_position_x_m", "probe_position_y_m"),
    ("entry/sample/transformations/x_translation", "entry/sample/transformations/y_translation"),
    ("x", "y"),
    ("X", "Y"),
    ("posx", "posy"),
    ("pos_x", "pos_y"),
    ("x_positions", "y_positions"),
)

#: Names of tables (M, 2), x before y.
_WHOLE = (
    "entry_1/data_1/translation",
    "entry_1/sample_1/geometry_1/translation",
    "positions",
    "points",
    "translation",
)

#: Names that columns of triggers have.
_TRIGGERS = ("index", "trigger", "frame", "image", "number", "point")

_UNIT = re.compile(r"[\[(_ ]\s*(m|mm|um|µm|μm|nm|px|pixels?|microns?)\s*[\])]?$", re.IGNORECASE)


@dataclass(frozen=True, eq=False)
class PositionTable:
    """Positions (x, y) as a file holds them.

    `unit`: what the file says about it.
    `triggers` (K,): the pattern that each belongs to.
    """

    values: NDArray[np.float64]
    unit: str | None = None
    triggers: NDArray[np.int64] | None = None


def read_position_file(text: str) -> PositionTable:
    """Read positions named as FILE[::PATH]; PATH may be two columns, `X,Y`."""
    path, inside = split_name(text, option="positions")
    with reading(path):
        if path.suffix.lower() in _TABLES:
            return _from_text(path, inside)
        return _from_arrays(path, inside)


def _from_arrays(path: Path, inside: str) -> PositionTable:
    names = [name.strip().strip("/") for name in inside.split(",") if name.strip()]
    if not names:
        found = listing(path)
        pair = next((pair for pair in _PAIRS if set(pair) <= set(found)), None)
        whole = next((name for name in _WHOLE if name in found), None)
        if pair is None and whole is None and len(found) > 1:
            raise DataContractError(
                f"'{path}' holds {describe(found)}; name its positions as {path}::PATH, or "
                f"{path}::X,Y for two columns"
            )
        names = [*pair] if pair is not None else [whole or next(iter(found))]
    arrays = [read_array(path, name) for name in names]
    units = {unit for _, unit in arrays if unit is not None}
    if len(units) > 1:
        raise DataContractError(f"'{path}': x and y have different units: {', '.join(units)}")
    unit = units.pop() if units else _unit_of_name(names[0])
    if unit is None and names[0] in ("xcoords", "probe_position_x_px"):
        unit = "px"
    if unit is None and names[0] == "probe_position_x_m":
        unit = "m"
    if len(arrays) == 2:
        x, y = (np.ravel(values).astype(np.float64) for values, _ in arrays)
        if len(x) != len(y):
            raise DataContractError(f"'{path}' holds {len(x)} x but {len(y)} y positions")
        return PositionTable(np.stack([x, y], axis=1), unit)
    return PositionTable(_as_table(arrays[0][0], path), unit)


def _as_table(values: NDArray[np.generic], path: Path) -> NDArray[np.float64]:
    table = np.asarray(values, np.float64)
    if table.ndim == 3 and table.shape[-1] in (2, 3):
        table = table.reshape(-1, table.shape[-1])
    if table.ndim == 2 and table.shape[1] not in (2, 3) and table.shape[0] in (2, 3):
        table = table.T
    if table.ndim != 2 or table.shape[1] not in (2, 3):
        raise DataContractError(f"'{path}': positions are {table.shape}, expected (M, 2)")
    return table[:, :2]


def _from_text(path: Path, inside: str) -> PositionTable:
    names, table = _read_table(path)
    wanted = [name.strip() for name in inside.split(",") if name.strip()]
    triggers = None
    if wanted:
        columns = [_column(name, names, table.shape[1], path) for name in wanted[:2]]
    elif names:
        plain = [_plain(name) for name in names]
        columns = [next((i for i, name in enumerate(plain) if name == axis), -1) for axis in "xy"]
        if -1 in columns:
            columns = [
                next(
                    (i for i, name in enumerate(plain) if re.search(rf"(^|_){axis}(_|$)", name)), -1
                )
                for axis in "xy"
            ]
        if -1 in columns and table.shape[1] != 2:
            raise DataContractError(
                f"'{path}' has the columns {', '.join(names)}; name those of x and y as {path}::X,Y"
            )
        if -1 in columns:
            columns = [0, 1]
        at = next((i for i, name in enumerate(plain) if name in _TRIGGERS), None)
        if at is not None and at not in columns:
            triggers = table[:, at].astype(np.int64)
    elif table.shape[1] == 2:
        columns = [0, 1]
    else:
        raise DataContractError(
            f"'{path}' has {table.shape[1]} columns without names; name those of x and y by their "
            f"numbers from 0, as {path}::1,2"
        )
    unit = _unit_of_name(names[columns[0]]) if names else None
    return PositionTable(table[:, columns], unit, triggers)


def _read_table(path: Path) -> tuple[list[str], NDArray[np.float64]]:
    """Read column names, if there are any, and numbers; of SPEC, the last scan."""
    names: list[str] = []
    rows: list[list[float]] = []
    for line in path.read_text(errors="replace").splitlines():
        text = line.strip()
        if text.startswith("#S "):
            rows = []
        if text.startswith("#L "):
            names = re.split(r"\s{2,}", text[3:].strip())
            continue
        if not text:
            continue
        words = re.split(r"[,;\t]" if re.search(r"[,;\t]", text) else r"\s+", text)
        words = [word.strip() for word in words if word.strip()]
        try:
            rows.append([float(word) for word in words])
        except ValueError:
            if not rows and not names and not text.startswith(("#F", "#E", "#D", "#O", "#P")):
                names = [word.strip('#" ') for word in words if word.strip('#" ')]
            elif not text.startswith("#"):
                raise DataContractError(
                    f"'{path}': the line {text[:60]!r} is no row of numbers"
                ) from None
    if not rows or len({len(row) for row in rows}) != 1:
        raise DataContractError(f"'{path}' is no table of numbers with rows of one length")
    table = np.array(rows)
    return (names if len(names) == table.shape[1] else []), table


def _column(name: str, names: list[str], number: int, path: Path) -> int:
    if name in names:
        return names.index(name)
    if name.isdigit() and int(name) < number:
        return int(name)
    listed = ", ".join(names) or f"{number} without names"
    raise DataContractError(f"'{path}' has no column {name!r}; its columns are {listed}")


def _plain(name: str) -> str:
    return re.sub(r"[^a-z0-9]+", "_", _UNIT.sub("", name.strip()).lower()).strip("_")


def _unit_of_name(name: str) -> str | None:
    """Read the unit that a column's name ends with, as `x_um` or `Y (mm)`."""
    found = _UNIT.search(name.strip())
    if found is None:
        return None
    unit = found[1].lower().replace("µ", "u").replace("μ", "u")
    return {"pixel": "px", "pixels": "px", "micron": "um", "microns": "um"}.get(unit, unit)
