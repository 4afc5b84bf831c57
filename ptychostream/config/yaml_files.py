"""Configurations to and from YAML and plain mappings."""

from collections.abc import Mapping
from contextlib import suppress
from dataclasses import fields, is_dataclass
from pathlib import Path
from typing import Any, TypeVar

from ptychostream.config.describe import describe_fields
from ptychostream.config.fields import unknown_names
from ptychostream.errors import ConfigurationError, MissingFileError
from ptychostream.files import whole_file

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
    described = describe_fields(kind)
    if unknown := {name: value for name, value in values.items() if name not in described}:
        raise ConfigurationError(f"{where} has {unknown_names(unknown, kind)}")
    arguments = dict(values)
    for name, value in values.items():
        expected = described[name].kind
        if is_dataclass(expected) and not isinstance(value, expected):
            nested = {} if value is None else value
            arguments[name] = from_mapping(expected, nested, origin=f"{where}.{name}")
        elif isinstance(value, str) and expected is float:
            # YAML 1.1 reads 1e-3 as text; text that is not a number is refused by its field's name.
            with suppress(ValueError):
                arguments[name] = float(value)
    try:
        return kind(**arguments)
    except ConfigurationError as error:
        raise ConfigurationError(f"{where}: {error}") from error


def write_yaml(config: Any, path: Path) -> None:
    """Write a configuration as YAML."""
    import yaml

    with whole_file(path) as partial:
        partial.write_text(yaml.safe_dump(to_mapping(config), sort_keys=False), encoding="utf-8")


def read_yaml(kind: type[Config], path: Path) -> Config:
    """Read a configuration from YAML.

    Raises
    ------
    MissingFileError
        If there is no such file.
    ConfigurationError
        If the file is not a mapping of known fields, or a value does not fit.
    """
    from ptychostream.config.plain_yaml import load_yaml

    if not path.is_file():
        raise MissingFileError(f"no configuration file '{path}'")
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, ValueError) as error:
        raise ConfigurationError(f"'{path}' is not YAML: {error}") from error
    values = load_yaml(text, f"'{path}'")
    return from_mapping(kind, {} if values is None else values, origin=f"'{path}'")
