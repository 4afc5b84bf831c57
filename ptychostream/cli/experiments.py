"""Which experiments of a store a command works on, and the table of their results."""

import csv
import re
from collections.abc import Iterable, Sequence
from fnmatch import fnmatchcase
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ptychostream.errors import ConfigurationError, DataContractError
from ptychostream.files import whole_file

if TYPE_CHECKING:
    from ptychostream.reconstruction.result import ReconstructionResult

#: Table of the results, one line an experiment.
SUMMARY = "summary.csv"

#: A number, or a range.
_RANGE = re.compile(r"\d+|\d*:\d*")

#: Names that a message lists, at most.
_SHOWN = 5


def chosen_experiments(text: str | None, names: Sequence[str]) -> list[int] | None:
    """Return the experiments that `all`, `3`, `0,4`, `2:5` or `tuesday*` name; None for none.

    Experiments are counted from 0; the end of a range is not in it. `names` has one for each.
    """
    if text is None:
        return None
    number = len(names)
    if text == "all":
        return list(range(number))
    chosen: list[int] = []
    for part in text.split(","):
        if _RANGE.fullmatch(part):
            first, colon, last = part.partition(":")
            start = int(first or 0)
            chosen += range(start, (int(last) if last else number) if colon else start + 1)
        else:
            chosen += _named(part, names)
    wrong = [each for each in chosen if not 0 <= each < number]
    if wrong or not chosen:
        raise DataContractError(
            f"the store has no experiment {wrong[0] if wrong else text}; it holds {number}, "
            "from 0 on"
        )
    return list(dict.fromkeys(chosen))


def _named(pattern: str, names: Sequence[str]) -> list[int]:
    found = [number for number, name in enumerate(names) if fnmatchcase(name, pattern)]
    if not found:
        known = ", ".join(repr(name) for name in names[:_SHOWN] if name)
        more = ", …" if len(names) > _SHOWN else ""
        raise ConfigurationError(
            f"--experiment {pattern!r} is no number, no range such as 2:5, and no experiment has "
            f"such a name; {f'names are {known}{more}' if known else 'the experiments have none'}"
        )
    return found


def folder_of(out: Path, experiment: int) -> Path:
    """Return the folder of one experiment's result."""
    return out / f"experiment-{experiment:04d}"


def summary_row(experiment: int, name: str, result: "ReconstructionResult") -> dict[str, Any]:
    """Return the line of an experiment: how well it fits, and what to know of it."""
    fit = result.fit
    held_out = None if fit is None else fit.held_out
    return {
        "experiment": experiment,
        "name": name,
        "patterns": len(result.positions),
        "misfit": None if fit is None else round(fit.final, 5),
        "explained": None if held_out is None else round(held_out.explained, 4),
        "skill": None if held_out is None else round(held_out.skill, 4),
        "seconds": round(result.seconds.get("total", 0.0), 2),
        "warnings": "; ".join(result.warnings()),
    }


def read_summary(out: Path) -> list[dict[str, Any]]:
    """Return the lines of a table; none where there is no table yet."""
    if not (out / SUMMARY).exists():
        return []
    with (out / SUMMARY).open(newline="") as stream:
        return list(csv.DictReader(stream))


def write_summary(out: Path, rows: Iterable[dict[str, Any]]) -> Path:
    """Write the table of all results so far, whole or not at all."""
    listed = list(rows)
    with whole_file(out / SUMMARY) as partial, partial.open("w", newline="") as stream:
        writer = csv.DictWriter(stream, fieldnames=list(listed[0]))
        writer.writeheader()
        writer.writerows(listed)
    return out / SUMMARY
