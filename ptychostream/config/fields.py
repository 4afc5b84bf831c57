"""Declaring a configuration: kind, bounds, default and one sentence stand together at a field.

The checks, their messages, the help of the command line, the reference pages and the settings
in ptychodus are made from what stands there.
"""

import difflib
from collections.abc import Mapping
from dataclasses import field, fields
from functools import reduce, wraps
from operator import or_
from pathlib import Path
from typing import (
    Annotated,
    Any,
    TypeVar,
    Union,
    dataclass_transform,
    get_args,
    get_origin,
    get_type_hints,
)

from pydantic import AfterValidator, BeforeValidator, ConfigDict, Field, Strict, ValidationError
from pydantic.dataclasses import dataclass as checked_dataclass

from ptychostream.config.describe import describe_fields
from ptychostream.config.ptychopinn_settings import advice_for_value, setting
from ptychostream.errors import ConfigurationError
from ptychostream.memory import parse_bytes

Config = TypeVar("Config")

#: All configurations, to name the one that has a field which another lacks.
_KINDS: list[type] = []

#: Kinds are not converted into each other: 1.5 epochs, or the text "false", are mistakes.
_RULES = ConfigDict(use_attribute_docstrings=True, strict=True, allow_inf_nan=False)


def _in_bytes(value: Any) -> Any:
    return str(value) if type(value) is int else value


def _checked_amount(amount: str) -> str:
    parse_bytes(amount)
    return amount


def _number_of_devices(value: Any) -> Any:
    if value != "auto":
        return value
    # Imported only where the devices must be counted.
    import torch

    return max(1, torch.cuda.device_count())


#: A number of devices; `auto` is all that this machine has, counted when it is given.
DeviceCount = Annotated[int, BeforeValidator(_number_of_devices), Field(ge=1)]
#: A path, also given as text.
AnyPath = Annotated[Path, Strict(strict=False)]
#: From 0 to below 1.
PartBelowOne = Annotated[float, Field(ge=0, lt=1)]
#: An amount of memory with a unit; without one, or as a number, it is in bytes.
MemoryAmount = Annotated[str, BeforeValidator(_in_bytes), AfterValidator(_checked_amount)]


@dataclass_transform(frozen_default=True, kw_only_default=True, field_specifiers=(field,))
def configuration(kind: type[Config]) -> type[Config]:
    """Make a class a configuration: a frozen dataclass that checks its values when it is made."""
    checked: Any = checked_dataclass(frozen=True, kw_only=True, config=_RULES)(kind)
    # The command line reads the plain types; bounds are checked here.
    hints = get_type_hints(checked)
    for item in fields(checked):
        hint = hints[item.name]
        item.type = reduce(or_, get_args(hint)) if get_origin(hint) is Union else hint
    construct = checked.__init__

    @wraps(construct)
    def make(self: Any, **values: Any) -> None:
        if unknown := {n: v for n, v in values.items() if n not in checked.__dataclass_fields__}:
            raise TypeError(f"{kind.__name__} has {unknown_names(unknown, checked)}")
        values = {name: plain_value(value) for name, value in values.items()}
        try:
            construct(self, **values)
        except ValidationError as error:
            raise ConfigurationError(_message(checked, error, values)) from None

    checked.__init__ = make
    entries = (
        f"{each.name} : {each.allowed}\n    {each.meaning}"
        for each in describe_fields(checked).values()
    )
    _KINDS.append(checked)
    checked.__doc__ = f"{kind.__doc__}\n\nAttributes\n----------\n" + "\n".join(entries)
    return checked


def plain_value(value: Any) -> Any:
    """Turn scalars and arrays of NumPy into Python's own values, and tuples into lists.

    Returns
    -------
    object
        A value that JSON and YAML can hold if the given one has such a form.

    Examples
    --------
    >>> import numpy as np
    >>> plain_value((np.int64(3), 0.5))
    [3, 0.5]
    """
    # Recognised by their methods, so that NumPy need not be imported.
    if hasattr(value, "tolist") and hasattr(value, "dtype") and hasattr(value, "item"):
        return value.tolist()
    if isinstance(value, list | tuple):
        return [plain_value(item) for item in value]
    return value


def unknown_names(unknown: Mapping[Any, Any], kind: type) -> str:
    """Describe keys that a configuration lacks: who has each, or which key may be meant."""
    known = describe_fields(kind)
    names = sorted(map(str, unknown))
    told = {name: advice for name in names if (advice := _elsewhere(name, unknown, kind))}
    for name in names:
        if name not in told and (match := difflib.get_close_matches(name, known, n=1)):
            told[name] = f"did you mean {match[0]!r} by {name!r}?"
    advice = "".join(f"; {told[name]}" for name in names if name in told)
    listed = "" if len(told) == len(names) else f"; {kind.__name__} knows {', '.join(known)}"
    return f"unknown keys {', '.join(names)}{advice}{listed}"


def _elsewhere(name: str, unknown: Mapping[Any, Any], kind: type) -> str:
    """Return which other configuration has a field, or what stands for PtychoPINN's; else ''."""
    others = [other.__name__ for other in _KINDS if name in describe_fields(other)]
    if others:
        given = f"{name}={unknown.get(name)!r}"
        return f"pass it as {' or '.join(f'{other}({given})' for other in others)}"
    theirs = setting(name)
    return "" if theirs is None else f"{name} is PtychoPINN's: {theirs.advice}"


def _message(kind: type, error: ValidationError, values: Mapping[str, Any]) -> str:
    """Name each field that does not fit, the value seen and what is allowed."""
    described = describe_fields(kind)
    parts: dict[str, str] = {}
    for each in error.errors(include_url=False):
        raised = each.get("ctx", {}).get("error")
        if not each["loc"]:
            # Fields contradict each other: the class has a message of its own.
            return str(raised or each["msg"])
        name = str(each["loc"][0])
        seen = f"{name}={values[name]!r}"
        if raised is not None:
            parts[name] = f"{name}={raised}"
        elif described[name].choices:
            advice = advice_for_value(name, values[name])
            parts[name] = f"{seen} is not one of {described[name].allowed}" + (
                f"; {advice}" if advice else ""
            )
        else:
            parts[name] = f"{seen} must be {described[name].allowed}"
    return "; ".join(parts.values())
