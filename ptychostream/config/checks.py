"""Checks that the configuration classes share."""

from typing import Any, get_args, get_type_hints

from ptychostream.errors import ConfigurationError


def check_choices(config: Any) -> None:
    """Check every field annotated with `Literal` against its choices.

    Parameters
    ----------
    config : dataclass
        The configuration object.

    Raises
    ------
    ConfigurationError
        If a value is not one of the choices; the message lists them.
    """
    for name, hint in get_type_hints(type(config)).items():
        choices = _literal_choices(hint)
        value = getattr(config, name)
        if choices and value not in choices:
            raise ConfigurationError(
                f"{name}={value!r} is not one of {', '.join(map(repr, choices))}"
            )


def check_at_least(config: Any, minimum: float, *names: str, exclusive: bool = False) -> None:
    """Check that numbers are not below a minimum; None passes.

    Parameters
    ----------
    config : dataclass
        The configuration object.
    minimum : float
        The least admissible value.
    *names : str
        The fields to check.
    exclusive : bool
        Whether the minimum itself is refused too.

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
