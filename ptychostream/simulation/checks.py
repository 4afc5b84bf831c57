"""Check a user's numbers, seeds, names and options."""

import inspect
from collections.abc import Callable, Iterable, Mapping
from typing import Any, TypeVar

import numpy as np

from ptychostream.errors import ConfigurationError

Result = TypeVar("Result")


def check_positive(**values: float | None) -> None:
    """Refuse numbers that are not finite or not above zero; None is a number left out."""
    for name, value in values.items():
        if value is not None and not 0 < value < np.inf:
            raise ConfigurationError(f"{name}={value} must be above zero, and finite")


def check_seed(seed: int) -> None:
    """Refuse a seed that NumPy's generators do not accept."""
    if not isinstance(seed, int | np.integer) or isinstance(seed, bool) or seed < 0:
        raise ConfigurationError(f"seed={seed!r} must be a whole number, zero or more")


def call_by_name(
    kind: str,
    functions: Mapping[str, Callable[..., Result]],
    name: str,
    arguments: Iterable[Any],
    options: Mapping[str, Any] | None,
) -> Result:
    """Call the function of this name with a user's options."""
    if name not in functions:
        raise ConfigurationError(
            f"no {kind} {name!r}; choose one of {', '.join(sorted(functions))}"
        )
    function, given = functions[name], dict(options or {})
    known = {
        option
        for option, parameter in inspect.signature(function).parameters.items()
        if parameter.kind is inspect.Parameter.KEYWORD_ONLY
    }
    unknown = sorted(given.keys() - known)
    if unknown:
        raise ConfigurationError(
            f"{kind} {name!r} has no option {', '.join(map(repr, unknown))}; choose from "
            f"{', '.join(sorted(known)) or 'none'}"
        )
    given = {
        key: tuple(value) if isinstance(value, list) else value for key, value in given.items()
    }
    try:
        return function(*arguments, **given)
    except ConfigurationError:
        raise
    except (TypeError, ValueError, ZeroDivisionError) as error:
        raise ConfigurationError(f"{kind} {name!r} can't take {given}: {error}") from error
