"""Settings of PtychoPINN's PyTorch port, read as the configuration of today.

Files and settings in the field use its names: `OLDER_FIELDS` says which field each has become,
`ptychopinn_settings` what becomes of those that are no field. Names that are the same in both
schemas pass as they are.
"""

import logging
from collections.abc import Mapping
from dataclasses import fields
from typing import Any

from ptychostream.config.execution import PyTorchExecutionConfig
from ptychostream.config.fields import plain_value
from ptychostream.config.model import ModelConfig
from ptychostream.config.ptychopinn_settings import setting
from ptychostream.config.training import TrainingConfig
from ptychostream.config.yaml_files import from_mapping
from ptychostream.errors import ConfigurationError

logger = logging.getLogger(__name__)

#: Older name → field of today.
OLDER_FIELDS = {
    "grid_size": "gridsize",
    "mode": "model_type",
    "epochs": "nepochs",
    "K": "neighbor_count",
    "nll": "nll_weight",
    "loss_function": "torch_loss_mode",
    "n_subsample": "groups_per_position",
    "C": "gridsize",
}

#: Older name → its value → ours.
_VALUES: dict[str, dict[Any, Any]] = {
    "mode": {"Unsupervised": "pinn", "Supervised": "supervised"},
    "loss_function": {"Poisson": "poisson", "MAE": "mae"},
    "nll": {True: 1.0, False: 0.0},
}
#: Field → older value → ours, where the name has stayed.
_SAME_NAME: dict[str, dict[str, str]] = {
    "amp_activation": {"silu": "swish", "SiLU": "swish"},
    "neighbor_function": {
        "Nearest": "nearest",
        "Min_dist": "min_distance",
        "4_quadrant": "four_quadrant",
    },
}


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
    values = _without_foreign(_without_execution(_flat(values)))
    plain: dict[str, Any] = {"backend": "pytorch"}
    for name, value in values.items():
        if name == "C":
            continue
        field = OLDER_FIELDS.get(name, name)
        if name in OLDER_FIELDS and field in values:
            raise ConfigurationError(f"'{name}' and '{field}' are the same setting; keep one")
        plain[field] = _convert(name, value)
    if plain.get("torch_loss_mode") == "mae" or plain.get("nll_weight") == 0:
        plain = _on_amplitudes(plain)
    model = {item.name: plain.pop(item.name) for item in fields(ModelConfig) if item.name in plain}
    config = from_mapping(TrainingConfig, {**plain, "model": model}, origin="older schema")
    channels = values.get("C", config.model.group_size)
    if channels != config.model.group_size:
        raise ConfigurationError(
            f"C={channels!r} but a grid of {config.model.gridsize} x {config.model.gridsize} has "
            f"{config.model.group_size} patterns; correct C or grid_size"
        )
    is_on_counts = config.scale_contract_version == "ci_intensity_v2"
    if is_on_counts and config.model.architecture == "cnn" and "cnn_input" not in values:
        logger.warning(
            "ci_intensity_v2 compares with counts here; for a network that sees intensities, as "
            "PtychoPINN's, set cnn_input='intensity'"
        )
    return config


def _on_amplitudes(plain: dict[str, Any]) -> dict[str, Any]:
    """Train on the amplitude error: what PtychoPINN does without the likelihood."""
    if plain.get("model_type") == "supervised":
        # Supervised training there ignores the weight of the likelihood.
        return plain if "mae_weight" in plain else {**plain, "nll_weight": 1.0}
    return {"torch_loss_mode": "mae", "mae_weight": 1.0, **plain, "nll_weight": 0.0}


def _flat(values: Mapping[str, Any]) -> dict[str, Any]:
    """Move the settings of a nested `model` to the top level."""
    flat = {name: plain_value(value) for name, value in values.items() if name != "model"}
    nested = values.get("model")
    if nested is None:
        return flat
    if not isinstance(nested, Mapping):
        raise ConfigurationError(f"older schema: model={nested!r} must be a mapping of settings")
    known = {item.name for item in fields(ModelConfig)}
    for name, value in nested.items():
        if OLDER_FIELDS.get(name, name) not in known and setting(name) is None:
            raise ConfigurationError(f"older schema: model has the unknown key {name!r}")
        if name in flat:
            raise ConfigurationError(f"'{name}' stands inside and outside of 'model'; keep one")
        flat[name] = plain_value(value)
    return flat


def _without_execution(values: dict[str, Any]) -> dict[str, Any]:
    """Drop settings of the execution at their defaults; refuse others, which belong elsewhere."""
    own = {item.name for kind in (ModelConfig, TrainingConfig) for item in fields(kind)}
    default = vars(PyTorchExecutionConfig())
    kept = {}
    for name, value in values.items():
        if name in own or name not in default:
            kept[name] = value
        elif value not in (None, default[name]):
            raise ConfigurationError(
                f"{name}={value!r} says how a run is executed, not what is trained: pass it as "
                f"PyTorchExecutionConfig({name}={value!r})"
            )
    return kept


def _without_foreign(values: dict[str, Any]) -> dict[str, Any]:
    """Drop settings without a field that have no effect; refuse those that would have one."""
    kept = {}
    for name, value in values.items():
        foreign = setting(name)
        if foreign is None:
            if value is not None or _takes_none(name):
                kept[name] = value
        elif value not in foreign.off:
            if foreign.is_refused:
                raise ConfigurationError(
                    f"PtychoPINN's {name}={value!r} is not a setting here: {foreign.advice}"
                )
            logger.warning("PtychoPINN's %s=%r does nothing here: %s", name, value, foreign.advice)
    return kept


def _takes_none(name: str) -> bool:
    """Return whether None is a value here; elsewhere it is a setting that was left out."""
    defaults = {**vars(ModelConfig()), **vars(TrainingConfig())}
    return defaults.get(OLDER_FIELDS.get(name, name)) is None


def _convert(name: str, value: Any) -> Any:
    if name == "grid_size":
        sides = tuple(value) if isinstance(value, list | tuple) else (value, value)
        if len(sides) != 2 or sides[0] != sides[1]:
            raise ConfigurationError(f"grid_size={value!r} must be two equal numbers (g, g)")
        return sides[0]
    if name in _VALUES:
        choices = _VALUES[name]
        if not isinstance(value, str | bool) or value not in choices:
            raise ConfigurationError(
                f"{name}={value!r} is not one of {', '.join(map(repr, choices))}"
            )
        return choices[value]
    return _SAME_NAME.get(name, {}).get(value, value) if isinstance(value, str) else value
