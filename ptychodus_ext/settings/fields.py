"""From a configuration's fields to settings of ptychodus: key, kind, default, bounds, meaning."""

from collections.abc import Collection, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from ptychostream.config.describe import FieldDescription, describe_fields
from ptychostream.errors import ConfigurationError

#: Words of field names as ptychodus writes them in keys; others get a capital letter.
_WORDS = {
    "n": "Num",
    "nepochs": "NumEpochs",
    "nphotons": "NumPhotons",
    "gridsize": "GridSize",
    "nll": "NLL",
    "mae": "MAE",
    "fno": "FNO",
    "lr": "LearningRate",
    "val": "Value",
}
_KEYS = {
    "neighbor_count": "NumNearestNeighbors",
    "recon_log_every_n_epochs": "ReconLogEveryNEpochs",
}

#: Kinds of values that a settings file can hold.
_KINDS = (bool, int, float, str, Path, list)


@dataclass(frozen=True)
class Setting:
    """One setting.

    `key`: its name in a settings file.
    `field`: the field that it stands for.
    `kind`: bool, int, float, str, Path or list.
    `is_optional`: whether the field may be None.
    `choices`: admissible texts; empty where any is.
    `meaning`: what it does, one sentence or two.
    """

    key: str
    field: str
    kind: type
    default: Any
    is_optional: bool
    choices: tuple[str, ...]
    minimum: float | None
    maximum: float | None
    meaning: str

    @property
    def unset(self) -> Any:
        """The value that stands for None: below the least one, or empty."""
        if self.kind in (int, float):
            return self.kind(self.minimum or 0)
        return Path() if self.kind is Path else "none" if self.kind is str else ""

    def to_field(self, value: Any) -> Any:
        """Turn ptychodus's value into the field's."""
        if self.is_optional and value == self.unset:
            return None
        if self.kind is list:
            return _numbers(self.key, value)
        if self.kind is Path:
            return str(value)
        # A choice between True, False and words.
        return {"True": True, "False": False}.get(value, value) if self.choices else value

    def to_parameter(self, value: Any) -> Any:
        """Turn the field's value into ptychodus's."""
        if value is None:
            return self.unset
        if self.kind is list:
            return ", ".join(map(str, value))
        return str(value) if self.choices else value


def key_of(field: str) -> str:
    """Name a setting after its field, as ptychodus names its own.

    Examples
    --------
    >>> key_of("nepochs"), key_of("n_filters_scale"), key_of("lr_min_ratio")
    ('NumEpochs', 'NumFiltersScale', 'LearningRateMinRatio')
    """
    if field in _KEYS:
        return _KEYS[field]
    return "".join(_WORDS.get(word, word[:1].upper() + word[1:]) for word in field.split("_"))


def settings_of(
    kind: type, *, without: Collection[str] = (), defaults: Mapping[str, Any] | None = None
) -> dict[str, Setting]:
    """Describe the settings that stand for a configuration's fields."""
    described = {}
    for name, each in describe_fields(kind).items():
        if each.kind not in _KINDS or name in without:
            continue
        choices = tuple(map(str, each.choices))
        minimum, maximum = _bounds(each)
        setting = Setting(
            key=key_of(name),
            field=name,
            kind=each.kind,
            default=None,
            is_optional=each.is_optional,
            choices=("none", *choices) if choices and each.is_optional else choices,
            minimum=minimum,
            maximum=maximum,
            meaning=each.meaning.replace("`", ""),
        )
        default = (defaults or {}).get(name, each.default)
        described[name] = replace(setting, default=setting.to_parameter(default))
    return described


def _numbers(key: str, text: str) -> list[int]:
    try:
        return [int(word) for word in text.replace(",", " ").split()]
    except ValueError as error:
        raise ConfigurationError(f"{key} = {text!r} must be numbers, such as 0, 5, 9") from error


def _bounds(field: FieldDescription) -> tuple[float | None, float | None]:
    """Return a number's bounds as ptychodus has them: inclusive, and with room for None below."""
    if field.kind not in (int, float):
        return None, None
    above = field.bounds.get("gt")
    if above is not None:
        # Zero, where only what is above it is allowed, stands for None.
        minimum = above if field.kind is float or field.is_optional else above + 1
    else:
        minimum = field.bounds.get("ge", 0) - (1 if field.is_optional else 0)
    maximum = field.bounds.get("le", field.bounds.get("lt"))
    return field.kind(minimum), None if maximum is None else field.kind(maximum)
