"""Checks that the configuration classes share."""

import re
import types
from dataclasses import fields, is_dataclass
from pathlib import Path
from typing import Any, Literal, Union, get_args, get_origin, get_type_hints

from ptychostream.errors import ConfigurationError

#: What a kind of value is called in messages.
_WORDS: dict[Any, str] = {
    bool: "true or false",
    int: "a whole number",
    float: "a number",
    str: "text",
    Path: "a path",
    list[int]: "a list of whole numbers",
    type(None): "None",
}

#: Units of an amount of memory, as the store reads it.
_MEMORY_UNITS = {
    **{unit: 1000**power for power, unit in enumerate(("", "k", "m", "g", "t"))},
    **{f"{unit}i": 1024**power for power, unit in enumerate("kmgt", start=1)},
}


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
    # Known by their methods, so that a configuration is made without importing NumPy.
    if hasattr(value, "tolist") and hasattr(value, "dtype") and hasattr(value, "item"):
        return value.tolist()
    if isinstance(value, list | tuple):
        return [plain_value(item) for item in value]
    return value


def take_plain_values(config: Any) -> None:
    """Make every field of a configuration under construction a plain value of its kind.

    Parameters
    ----------
    config : dataclass
        The configuration object; scalars of NumPy in it become Python's own.

    Raises
    ------
    ConfigurationError
        If a value is not of the kind that its field is annotated with.
    """
    hints = get_type_hints(type(config))
    for item in fields(config):
        value = getattr(config, item.name)
        plain = plain_value(value)
        if plain is not value:
            object.__setattr__(config, item.name, plain)
        if not _fits(plain, hints[item.name]):
            raise ConfigurationError(f"{item.name}={plain!r} must be {_describe(hints[item.name])}")


def check_memory(config: Any, name: str) -> None:
    """Check that a field is an amount of memory, as the loader of the store reads it.

    Raises
    ------
    ConfigurationError
        If it is not a positive amount.
    """
    amount = getattr(config, name)
    match = re.fullmatch(r"\s*([\d.]+)\s*([kmgt]?i?)b?\s*", amount.lower())
    try:
        size = int(float(match[1]) * _MEMORY_UNITS[match[2]]) if match else 0
    except (ValueError, KeyError, OverflowError):
        size = 0
    if size <= 0:
        raise ConfigurationError(f"{name}={amount!r} is no amount of memory; write, say, '512 MiB'")


def check_choices(config: Any) -> None:
    """Check every field annotated with `Literal` against its choices.

    Raises
    ------
    ConfigurationError
        If a value is not one of the choices; the message lists them.
    """
    for name, hint in get_type_hints(type(config)).items():
        choices = _literal_choices(hint)
        value = getattr(config, name)
        # True is no 1, although Python calls them equal.
        if choices and not any(
            value == choice and isinstance(value, bool) is isinstance(choice, bool)
            for choice in choices
        ):
            raise ConfigurationError(
                f"{name}={value!r} is not one of {', '.join(map(repr, choices))}"
            )


def check_at_least(config: Any, minimum: float, *names: str, exclusive: bool = False) -> None:
    """Check that numbers are not below a minimum; None passes.

    Raises
    ------
    ConfigurationError
        If a value is too small or is not a finite number.
    """
    for name in names:
        value = getattr(config, name)
        if value is None:
            continue
        # Written so that NaN fails as well.
        fits = value > minimum if exclusive else value >= minimum
        if not fits or value == float("inf"):
            relation = "above" if exclusive else "at least"
            raise ConfigurationError(f"{name}={value!r} must be a number {relation} {minimum:g}")


def _fits(value: Any, hint: Any) -> bool:
    """Whether a value is of an annotated kind; choices of `Literal` are checked elsewhere."""
    origin = get_origin(hint)
    if origin is Literal:
        return True
    if origin in (Union, types.UnionType):
        return any(_fits(value, part) for part in get_args(hint))
    if origin is list:
        return isinstance(value, list) and all(_fits(item, get_args(hint)[0]) for item in value)
    if hint is float:
        return isinstance(value, int | float) and not isinstance(value, bool)
    if hint is int:
        return isinstance(value, int) and not isinstance(value, bool)
    if hint is Path:
        return isinstance(value, str | Path)
    return isinstance(value, hint)


def _describe(hint: Any) -> str:
    if get_origin(hint) in (Union, types.UnionType):
        return " or ".join(_describe(part) for part in get_args(hint))
    if is_dataclass(hint) and isinstance(hint, type):
        return f"a {hint.__name__}"
    return _WORDS.get(hint, str(hint))


def _literal_choices(hint: Any) -> tuple[Any, ...]:
    arguments = get_args(hint)
    if not arguments:
        return ()
    if all(isinstance(argument, str | bool) for argument in arguments):
        return arguments
    nested = [_literal_choices(argument) for argument in arguments]
    if not any(nested):
        return ()
    return (*(choice for part in nested for choice in part), None)
