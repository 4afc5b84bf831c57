"""Which experiments of a store a command works on, and the table of their results."""

import csv
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ptychostream.errors import ConfigurationError, DataContractError
from ptychostream.files import whole_file

if TYPE_CHECKING:
    from ptychostream.reconstruction.result import ReconstructionResult

#: Table of the results, one line an experiment.
SUMMARY = "summary.csv"


def chosen_experiments(text: str | None, number: int) -> list[int] | None:
    """Return the experiments that `all`, `3`, `0,4` or `2:5` name; None where none was chosen.

    A store of `number` experiments has them from 0 on; the end of a range is not in it.
    """
    if text is None:
        return None
    if text == "all":
        return list(range(number))
    chosen: list[int] = []
    for part in text.split(","):
        first, colon, last = part.partition(":")
        try:
            start = int(first or 0)
            stop = (int(last) if last else number) if colon else start + 1
        except ValueError:
            raise ConfigurationError(
                f"--experiment {text!r} is not understood; give all, a number, 0,4 or 2:5"
            ) from None
        chosen += range(start, stop)
    wrong = [each for each in chosen if not 0 <= each < number]
    if wrong or not chosen:
        raise DataContractError(
            f"the store has no experiment {wrong[0] if wrong else text}; it holds {number}, "
            "from 0 on"
        )
    return list(dict.fromkeys(chosen))


def folder_of(out: Path, experiment: int) -> Path:
    """Return the folder of one experiment's result."""
    return out / f"experiment-{experiment:04d}"


def summary_row(experiment: int, result: "ReconstructionResult") -> dict[str, Any]:
    """Return the line of an experiment: how well it fits, and what to know of it."""
    fit = result.fit
    held_out = None if fit is None else fit.held_out
    return {
        "experiment": experiment,
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
