"""Positions out of files of their own: tables, HDF5, NPZ, NPY, MATLAB and SPEC."""

import logging
import re
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from ptychostream.datasets.sources.arrays import describe, listing, read_array, split_name
from ptychostream.datasets.sources.text_tables import is_spec, read_table, split_scan
from ptychostream.errors import DataContractError
from ptychostream.files import reading

logger = logging.getLogger(__name__)

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
    `triggers` (K,): the pattern that each belongs to, as the file counts them.
    `triggered_by`: name of the column that holds them.
    """

    values: NDArray[np.float64]
    unit: str | None = None
    triggers: NDArray[np.int64] | None = None
    triggered_by: str = ""


def read_position_file(text: str) -> PositionTable:
    """Read positions named as FILE[::PATH]; PATH may be two columns `X,Y`, or `SCAN::X,Y`."""
    path, inside = split_name(text, option="positions")
    with reading(path):
        if path.suffix.lower() in _TABLES or is_spec(path):
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
    number, names_of_columns = split_scan(inside)
    table = read_table(path, number)
    names, values = table.names, table.values
    wanted = [name.strip() for name in names_of_columns.split(",") if name.strip()]
    if len(wanted) not in (0, 2, 3):
        raise DataContractError(
            f"'{path}': {names_of_columns!r} must name the columns of x and y, and then that of "
            f"triggers if there is one: {path}::X,Y or {path}::X,Y,TRIGGER"
        )
    columns = (
        [_column(name, names, values.shape[1], path) for name in wanted[:2]]
        if wanted
        else _usual_columns(names, values.shape[1], path)
    )
    at = _column(wanted[2], names, values.shape[1], path) if wanted[2:] else None
    if at is None:
        at = _usual_trigger(names, values, columns, is_named=bool(wanted), path=path)
    elif not _are_whole(values[:, at]):
        raise DataContractError(f"'{path}': the triggers {wanted[2]!r} are no whole numbers")
    return PositionTable(
        values[:, columns],
        _unit_of_name(names[columns[0]]) if names else None,
        None if at is None else values[:, at].astype(np.int64),
        "" if at is None else (names[at] if names else str(at)),
    )


def _usual_columns(names: list[str], number: int, path: Path) -> list[int]:
    """Find the columns of x and y by their names, or take both of two."""
    plain = [_plain(name) for name in names]
    for pattern in (r"^{}$", r"(^|_){}(_|$)"):
        found = [
            next((i for i, name in enumerate(plain) if re.search(pattern.format(axis), name)), -1)
            for axis in "xy"
        ]
        if -1 not in found:
            return found
    if number == 2:
        return [0, 1]
    if names:
        raise DataContractError(
            f"'{path}' has the columns {', '.join(names)}; name those of x and y as {path}::X,Y"
        )
    raise DataContractError(
        f"'{path}' has {number} columns without names; name those of x and y by their numbers "
        f"from 0, as {path}::1,2"
    )


def _usual_trigger(
    names: list[str],
    values: NDArray[np.float64],
    columns: list[int],
    *,
    is_named: bool,
    path: Path,
) -> int | None:
    """Find a column of triggers by its name; where x and y were named, only `trigger` is sure."""
    plain = [_plain(name) for name in names]
    at = next((i for i, n in enumerate(plain) if n in _TRIGGERS and i not in columns), None)
    if at is None:
        return None
    if is_named and "trigger" in plain and plain.index("trigger") not in columns:
        at = plain.index("trigger")
    if not _are_whole(values[:, at]):
        logger.info("'%s': column %r holds no triggers, and is not used", path, names[at])
        return None
    if is_named and plain[at] != "trigger":
        logger.info(
            "'%s': lines are taken in their order; if column %r says to which pattern each "
            "belongs, name it after x and y: %s",
            path,
            names[at],
            f"{path}::{names[columns[0]]},{names[columns[1]]},{names[at]}",
        )
        return None
    return at


def _are_whole(values: NDArray[np.float64]) -> bool:
    return bool(np.isfinite(values).all() and (values == np.rint(values)).all())


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
