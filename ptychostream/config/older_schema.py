"""Settings of the older PyTorch schema, read as the configuration of today.

Files and settings in the field use its names: `OLDER_FIELDS` says which field each has become.
Names that are the same in both schemas pass as they are.
"""

from collections.abc import Mapping
from dataclasses import fields
from typing import Any

from ptychostream.config.fields import plain_value
from ptychostream.config.model import ModelConfig
from ptychostream.config.training import TrainingConfig
from ptychostream.config.yaml_files import from_mapping
from ptychostream.errors import ConfigurationError

#: Older name → field of today.
OLDER_FIELDS = {
    "grid_size": "gridsize",
    "mode": "model_type",
    "epochs": "nepochs",
    "K": "neighbor_count",
    "nll": "nll_weight",
    "C": "gridsize",
}

_MODES = {"Unsupervised": "pinn", "Supervised": "supervised"}


def from_older_schema(values: Mapping[str, Any]) -> TrainingConfig:
    """Make a training configuration from settings of the older PyTorch schema.

    Parameters
    ----------
    values : mapping
        Settings: older names, and names of today for model and training. Those of the model may
        stand in a mapping of their own, `model`.

    Raises
    ------
    ConfigurationError
        If a name is unknown, a value has no meaning today, or two settings contradict.

    Examples
    --------
    >>> from_older_schema({"grid_size": (2, 2), "C": 4, "mode": "Unsupervised"}).model.gridsize
    2
    """
    values = _flat(values)
    plain: dict[str, Any] = {"backend": "pytorch"}
    for name, value in values.items():
        if name == "C":
            continue
        field = OLDER_FIELDS.get(name, name)
        if name in OLDER_FIELDS and field in values:
            raise ConfigurationError(f"'{name}' and '{field}' are the same setting; keep one")
        plain[field] = _convert(name, value)
    model = {item.name: plain.pop(item.name) for item in fields(ModelConfig) if item.name in plain}
    config = from_mapping(TrainingConfig, {**plain, "model": model}, origin="older schema")
    channels = values.get("C", config.model.group_size)
    if channels != config.model.group_size:
        raise ConfigurationError(
            f"C={channels!r} but a grid of {config.model.gridsize} x {config.model.gridsize} has "
            f"{config.model.group_size} patterns; correct C or grid_size"
        )
    return config


def _flat(values: Mapping[str, Any]) -> dict[str, Any]:
    """Put the settings of a nested `model` beside the others."""
    flat = {name: plain_value(value) for name, value in values.items() if name != "model"}
    nested = values.get("model")
    if nested is None:
        return flat
    if not isinstance(nested, Mapping):
        raise ConfigurationError(f"older schema: model={nested!r} must be a mapping of settings")
    known = {item.name for item in fields(ModelConfig)}
    for name, value in nested.items():
        if OLDER_FIELDS.get(name, name) not in known:
            raise ConfigurationError(f"older schema: model has the unknown key {name!r}")
        if name in flat:
            raise ConfigurationError(f"'{name}' stands inside and outside of 'model'; keep one")
        flat[name] = plain_value(value)
    return flat


def _convert(name: str, value: Any) -> Any:
    if name == "grid_size":
        sides = tuple(value) if isinstance(value, list | tuple) else (value, value)
        if len(sides) != 2 or sides[0] != sides[1]:
            raise ConfigurationError(f"grid_size={value!r} must be two equal numbers (g, g)")
        return sides[0]
    if name == "mode":
        if value not in _MODES:
            raise ConfigurationError(f"mode={value!r} is not one of {', '.join(map(repr, _MODES))}")
        return _MODES[value]
    if name == "nll":
        if not isinstance(value, bool):
            raise ConfigurationError(f"nll={value!r} must be true or false")
        return 1.0 if value else 0.0
    return "swish" if value in ("silu", "SiLU") and name == "amp_activation" else value
