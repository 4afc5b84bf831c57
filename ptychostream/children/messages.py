"""What a child and its parent say to each other: one JSON line each, never a pickle."""

import json
import os
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np


@dataclass(frozen=True)
class Heartbeat:
    """The child lives but has had nothing to say for a while."""


@dataclass(frozen=True)
class Progress:
    """How far the child has come.

    Attributes
    ----------
    total : int
        Steps in all; 0 where not known.
    values : dict
        What else is known at this point, such as losses.
    """

    done: int
    total: int
    values: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Output:
    """A result, partial or final.

    Attributes
    ----------
    paths : dict
        Files in which the child left its arrays, by name.
    """

    values: dict[str, Any] = field(default_factory=dict)
    paths: dict[str, Path] = field(default_factory=dict)


@dataclass(frozen=True)
class Log:
    """A log record of the child, which its parent has already written to its own log."""

    level: int
    text: str


@dataclass(frozen=True)
class Done:
    """The task is finished; the last message."""

    values: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Failed:
    """The task raised an exception.

    Attributes
    ----------
    summary : str
        Kind and message of the exception.
    traceback : str
        Where it was raised; empty for errors that name what the user can do.
    """

    summary: str
    traceback: str


Message = Heartbeat | Progress | Output | Log | Done
_KINDS: dict[str, type] = {kind.__name__: kind for kind in (Progress, Output, Log, Done, Failed)}


def encode(message: Message | Failed) -> bytes:
    """Write a message as one line.

    Raises
    ------
    TypeError
        If it holds something that JSON can't say.
    """
    return encode_json({"kind": type(message).__name__, **asdict(message)})


def encode_json(values: Mapping[str, Any]) -> bytes:
    """Write a mapping as one line; NumPy scalars and paths become numbers and texts.

    Raises
    ------
    TypeError
        If it holds something that JSON can't say.
    """
    return json.dumps(values, default=_plain).encode("ascii") + b"\n"


def decode(line: bytes) -> Message | Failed:
    """Read a message.

    Raises
    ------
    ValueError
        If the line is no message.
    """
    try:
        values = json.loads(line)
        kind = _KINDS[values.pop("kind")]
        if kind is Output:
            values["paths"] = {name: Path(path) for name, path in values["paths"].items()}
        message: Message | Failed = kind(**values)
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise ValueError(f"no message of a child: {line[:200]!r}") from error
    return message


def _plain(value: object) -> Any:
    if isinstance(value, np.generic):
        return value.item()
    if isinstance(value, os.PathLike):
        return os.fspath(value)
    raise TypeError(f"{type(value).__name__} can't be sent to another process; save it as a file")
