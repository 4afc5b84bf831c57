"""Call functions with options that a user gives by name."""

import inspect
from collections.abc import Callable, Iterable, Mapping
from typing import Any, TypeVar

from ptychostream.errors import ConfigurationError

Result = TypeVar("Result")


def call_with_options(
    owner: str,
    function: Callable[..., Result],
    arguments: Iterable[Any],
    options: Mapping[str, Any],
) -> Result:
    """Call a function, and say whose options are wrong if it fails.

    Raises
    ------
    ConfigurationError
        If an option has a type or value that the function can't take.
    """
    try:
        return function(*arguments, **options)
    except ConfigurationError:
        raise
    except (TypeError, ValueError, ZeroDivisionError) as error:
        raise ConfigurationError(f"{owner} can't take {dict(options)}: {error}") from error


def positive(**values: float) -> None:
    """Refuse numbers that are not above zero.

    Raises
    ------
    ConfigurationError
        If one is zero, negative or not a number; the message names it.
    """
    for name, value in values.items():
        if not value > 0:
            raise ConfigurationError(f"{name}={value} must be above zero")


def check_options(
    owner: str, functions: Iterable[Callable[..., Any]], options: Mapping[str, Any] | None
) -> dict[str, Any]:
    """Refuse options that no function takes.

    Raises
    ------
    ConfigurationError
        If an option is unknown; the message lists those there are.
    """
    known = {
        name
        for function in functions
        for name, parameter in inspect.signature(function).parameters.items()
        if parameter.kind is inspect.Parameter.KEYWORD_ONLY
    }
    given = dict(options or {})
    unknown = sorted(set(given) - known)
    if unknown:
        raise ConfigurationError(
            f"{owner} has no option {', '.join(map(repr, unknown))}; there are "
            f"{', '.join(sorted(known)) or 'none'}"
        )
    return {
        name: tuple(value) if isinstance(value, list) else value for name, value in given.items()
    }
