"""Configurations to and from YAML and plain mappings."""

from collections.abc import Mapping
from dataclasses import fields, is_dataclass
from pathlib import Path
from typing import Any, TypeVar, get_type_hints

from ptychostream.errors import ConfigurationError, MissingFileError

Config = TypeVar("Config")


def to_mapping(config: Any) -> dict[str, Any]:
    """Turn a configuration into plain values, nested as its dataclasses are.

    Parameters
    ----------
    config : dataclass
        A configuration.

    Returns
    -------
    dict
        Numbers, strings, booleans, None and nested dictionaries only.

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

    Parameters
    ----------
    kind : type
        One of the configuration dataclasses.
    values : mapping
        Field names and values; nested for `model`.
    origin : str
        Where the values come from, for messages.

    Returns
    -------
    kind
        The configuration, checked.

    Raises
    ------
    ConfigurationError
        If a name is unknown or a value does not fit.
    """
    hints = get_type_hints(kind)
    unknown = sorted(set(values) - set(hints))
    if unknown:
        raise ConfigurationError(
            f"{origin or kind.__name__} has unknown keys {', '.join(unknown)}; "
            f"{kind.__name__} knows {', '.join(sorted(hints))}"
        )
    arguments = {}
    for name, value in values.items():
        hint = hints[name]
        if is_dataclass(hint) and isinstance(hint, type):
            value = from_mapping(hint, value or {}, origin=f"{origin or kind.__name__}.{name}")
        elif value is not None and Path in (hint, *getattr(hint, "__args__", ())):
            value = Path(value)
        elif isinstance(value, str) and float in (hint, *getattr(hint, "__args__", ())):
            # YAML 1.1 reads 1e-3 as a string.
            value = float(value)
        arguments[name] = value
    try:
        return kind(**arguments)
    except TypeError as error:
        raise ConfigurationError(f"{origin or kind.__name__}: {error}") from error


def write_yaml(config: Any, path: Path) -> None:
    """Write a configuration as YAML.

    Parameters
    ----------
    config : dataclass
        A configuration.
    path : Path
        The file.
    """
    import yaml

    path.write_text(yaml.safe_dump(to_mapping(config), sort_keys=False))


def read_yaml(kind: type[Config], path: Path) -> Config:
    """Read a configuration from YAML.

    Parameters
    ----------
    kind : type
        One of the configuration dataclasses.
    path : Path
        The file.

    Returns
    -------
    kind
        The configuration, checked.

    Raises
    ------
    MissingFileError
        If there is no such file.
    ConfigurationError
        If the file is not a mapping of known fields.
    """
    import yaml

    if not path.is_file():
        raise MissingFileError(f"no configuration file '{path}'")
    try:
        values = yaml.safe_load(path.read_text()) or {}
    except yaml.YAMLError as error:
        raise ConfigurationError(f"'{path}' is not YAML: {error}") from error
    if not isinstance(values, dict):
        raise ConfigurationError(f"'{path}' must be a mapping of fields, not {type(values)}")
    return from_mapping(kind, values, origin=f"'{path}'")
