"""What a child and its parent send each other: one JSON line each, never a pickle."""

import json
import os
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any


@dataclass(frozen=True)
class Heartbeat:
    """The child lives but has sent nothing for a while."""


@dataclass(frozen=True)
class Progress:
    """Steps done, steps in all (0 where not known), and what else is known, such as losses."""

    done: int
    total: int
    values: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Output:
    """A result, partial or final: values, and files in which the child left arrays, by name."""

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
    """The task raised an exception; errors of ours, which name what to do, have no traceback."""

    kind: str
    text: str
    traceback: str


Message = Heartbeat | Progress | Output | Log | Done
_KINDS: dict[str, type] = {kind.__name__: kind for kind in (Progress, Output, Log, Done, Failed)}


def encode(message: Message | Failed) -> bytes:
    """Write a message as one line; TypeError if it holds something that JSON has no form for."""
    return encode_json({"message": type(message).__name__, **asdict(message)})


def encode_json(values: Mapping[str, Any]) -> bytes:
    """Write a mapping as one line; NumPy scalars and paths become numbers and texts."""
    return json.dumps(values, default=_plain).encode("ascii") + b"\n"


def decode(line: bytes) -> Message | Failed:
    """Read a message; ValueError if the line is none."""
    try:
        values = json.loads(line)
        kind = _KINDS[values.pop("message")]
        if kind is Output:
            values["paths"] = {name: Path(path) for name, path in values["paths"].items()}
        message: Message | Failed = kind(**values)
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise ValueError(f"no message of a child: {line[:200]!r}") from error
    return message


def _plain(value: object) -> Any:
    # Scalars of NumPy and torch, neither of which is imported here: children start by forking.
    if getattr(value, "shape", None) == ():
        return value.item()  # type: ignore[attr-defined]
    if isinstance(value, os.PathLike):
        return os.fspath(value)
    raise TypeError(f"{type(value).__name__} can't be sent to another process; save it as a file")
