"""Which patterns of a file are left out: numbers, ranges and files of numbers."""

from pathlib import Path
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from ptychostream.errors import ConfigurationError, DataContractError, MissingFileError


def rows_of(
    text: str, count: int, *, name: str, option: Literal["leave_out", "leave_out_positions"]
) -> NDArray[np.int64]:
    """Read the numbers of patterns, such as `3,30:40,bad.txt`, in the file's own counting.

    `option`: says in messages whether they are patterns or positions.

    A range ends before its second number, as in Python.

    Examples
    --------
    >>> rows_of("3,5:8", 10, name="scan", option="leave_out").tolist()
    [3, 5, 6, 7]
    """
    what = "pattern" if option == "leave_out" else "position"
    found: list[int] = []
    for part in text.strip().strip("[]()").split(","):
        found += _numbers(part.strip(), count) if part.strip() else []
    unknown = [number for number in found if not 0 <= number < count]
    if unknown:
        raise DataContractError(
            f"{name}: there is no {what} {unknown[0]} to leave out; they are numbered 0 to "
            f"{count - 1}"
        )
    rows = np.unique(np.array(found, np.int64))
    if len(rows) == count:
        raise DataContractError(f"{name}: {option}={text} leaves no {what}")
    return rows


def _numbers(part: str, count: int) -> list[int]:
    first, is_range, last = part.partition(":")
    try:
        if is_range:
            start, stop = int(first or 0), int(last or count)
            if start >= stop:
                raise ConfigurationError(
                    f"leave_out={part!r} is an empty range; it ends before its second number"
                )
            return [*range(start, stop)]
        return [int(part)]
    except ValueError:
        pass
    path = Path(part)
    if not path.is_file():
        raise MissingFileError(
            f"leave_out: {part!r} is neither a number, nor a range such as 30:40, nor a file"
        )
    if path.suffix == ".npy":
        return np.load(path, allow_pickle=False).ravel().astype(int).tolist()
    words = path.read_text(errors="replace").replace(",", " ").split()
    try:
        return [number for word in words for number in _numbers_in_file(word, count)]
    except ValueError as error:
        raise ConfigurationError(f"'{path}' must hold numbers of patterns: {error}") from error


def _numbers_in_file(word: str, count: int) -> list[int]:
    first, is_range, last = word.partition(":")
    return [*range(int(first or 0), int(last or count))] if is_range else [int(word)]


def as_ranges(numbers: NDArray[np.int64]) -> str:
    """Write numbers shortly, as `leave_out` reads them.

    Examples
    --------
    >>> as_ranges(np.array([3, 5, 6, 7, 9, 10]))
    '3,5:8,9,10'
    """
    parts: list[str] = []
    runs = np.split(numbers, np.flatnonzero(np.diff(numbers) != 1) + 1)
    for run in runs:
        if len(run) > 2:
            parts.append(f"{run[0]}:{run[-1] + 1}")
        else:
            parts += [str(number) for number in run]
    return ",".join(parts)


def with_numbers(leave_out: str, numbers: NDArray[np.int64], option: str = "leave_out") -> str:
    """Write the option that leaves out these patterns and those that were left out before.

    Examples
    --------
    >>> with_numbers("[3]", np.array([39, 40]))
    "--leave_out '[3,39,40]'"
    """
    before = leave_out.strip().strip("[]()").strip(", ")
    return f"--{option} '[{before}{',' * bool(before)}{as_ranges(numbers)}]'"
