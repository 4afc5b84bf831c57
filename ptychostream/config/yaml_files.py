"""Configurations to and from YAML and plain mappings."""

from collections.abc import Mapping
from contextlib import suppress
from dataclasses import fields, is_dataclass
from pathlib import Path
from typing import Any, TypeVar, get_args, get_type_hints

from ptychostream.errors import ConfigurationError, MissingFileError

Config = TypeVar("Config")


def to_mapping(config: Any) -> dict[str, Any]:
    """Turn a configuration into plain values, nested as its dataclasses are.

    Examples
    --------
    >>> from ptychostream.config import ModelConfig
    >>> to_mapping(ModelConfig(N=128))["N"]
    128
    """
    plain: dict[str, Any] = {}
    for item in fields(config):
        value = getattr(config, item.name)
        if is_dataclass(value):
            value = to_mapping(value)
        elif isinstance(value, Path):
            value = str(value)
        plain[item.name] = value
    return plain


def from_mapping(kind: type[Config], values: Mapping[str, Any], *, origin: str = "") -> Config:
    """Make a configuration from plain values.

    Raises
    ------
    ConfigurationError
        If a name is unknown or a value does not fit.
    """
    where = origin or kind.__name__
    if not isinstance(values, Mapping):
        raise ConfigurationError(f"{where} must be a mapping of fields, not {values!r}")
    hints = get_type_hints(kind)
    unknown = sorted(str(name) for name in values if name not in hints)
    if unknown:
        raise ConfigurationError(
            f"{where} has unknown keys {', '.join(unknown)}; "
            f"{kind.__name__} knows {', '.join(sorted(hints))}"
        )
    arguments = {}
    for name, value in values.items():
        hint = hints[name]
        if is_dataclass(hint) and isinstance(hint, type):
            if not isinstance(value, hint):
                value = from_mapping(hint, {} if value is None else value, origin=f"{where}.{name}")
        elif isinstance(value, str) and Path in (hint, *get_args(hint)):
            value = Path(value)
        elif isinstance(value, str) and float in (hint, *get_args(hint)):
            # YAML 1.1 reads 1e-3 as a string. What is no number either is refused with its name.
            with suppress(ValueError):
                value = float(value)
        arguments[name] = value
    try:
        return kind(**arguments)
    except (ConfigurationError, TypeError) as error:
        raise ConfigurationError(f"{where}: {error}") from error


def write_yaml(config: Any, path: Path) -> None:
    """Write a configuration as YAML."""
    import yaml

    path.write_text(yaml.safe_dump(to_mapping(config), sort_keys=False))


def read_yaml(kind: type[Config], path: Path) -> Config:
    """Read a configuration from YAML.

    Raises
    ------
    MissingFileError
        If there is no such file.
    ConfigurationError
        If the file is not a mapping of known fields, or a value does not fit.
    """
    import yaml

    if not path.is_file():
        raise MissingFileError(f"no configuration file '{path}'")
    try:
        values = yaml.safe_load(path.read_text(encoding="utf-8"))
    # A ValueError: bytes that are no text, or a date that does not exist.
    except (yaml.YAMLError, ValueError) as error:
        raise ConfigurationError(f"'{path}' is not YAML: {error}") from error
    return from_mapping(kind, {} if values is None else values, origin=f"'{path}'")
