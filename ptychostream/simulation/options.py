"""Check options that a user gives by name against the functions that take them."""

import inspect
from collections.abc import Callable, Iterable, Mapping
from typing import Any

from ptychostream.errors import ConfigurationError


def check_options(
    owner: str, functions: Iterable[Callable[..., Any]], options: Mapping[str, Any] | None
) -> dict[str, Any]:
    """Refuse options that no function takes.

    Parameters
    ----------
    owner : str
        Whose options they are, for the message.
    functions : iterable of callable
        Their keyword-only parameters are the options.
    options : mapping, optional
        Options by name.

    Returns
    -------
    dict
        The options; lists, as YAML has them, become tuples.

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
