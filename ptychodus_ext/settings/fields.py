"""From a configuration's fields to settings of ptychodus: key, kind, default, bounds, meaning."""

import re
from collections.abc import Collection, Mapping
from dataclasses import MISSING, dataclass, fields, replace
from pathlib import Path
from types import NoneType
from typing import Any, Literal, get_args, get_origin, get_type_hints

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

#: Least values that no configuration checks, of fields for which 0 means something.
_LEAST = {"subsample_seed": 0}

#: Others must hold while one field is tried out.
_NEUTRAL = {"backend": "pytorch", "mae_weight": 1.0}


@dataclass(frozen=True)
class Setting:
    """One setting.

    Attributes
    ----------
    key : str
        Its name in a settings file.
    field : str
        The field that it stands for.
    kind : type
        bool, int, float, str, Path or list.
    is_optional : bool
        Whether the field may be None.
    choices : tuple
        Admissible texts; empty where any is.
    meaning : str
        What it does, one sentence or two.
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
    hints, meanings = get_type_hints(kind), _meanings(kind)
    described = {}
    for item in fields(kind):
        plain, is_optional, choices = _examine(hints[item.name])
        if plain is None or item.name in without:
            continue
        minimum, maximum = _bounds(kind, item.name, plain, is_optional=is_optional)
        default = item.default
        if default is MISSING and item.default_factory is not MISSING:
            default = item.default_factory()
        default = (defaults or {}).get(item.name, default)
        setting = Setting(
            key=key_of(item.name),
            field=item.name,
            kind=plain,
            default=None,
            is_optional=is_optional,
            choices=("none", *choices) if choices and is_optional else choices,
            minimum=minimum,
            maximum=maximum,
            meaning=meanings.get(item.name, ""),
        )
        described[item.name] = replace(setting, default=setting.to_parameter(default))
    return described


def _numbers(key: str, text: str) -> list[int]:
    try:
        return [int(word) for word in text.replace(",", " ").split()]
    except ValueError as error:
        raise ConfigurationError(f"{key} = {text!r} must be numbers, such as 0, 5, 9") from error


def _examine(hint: Any) -> tuple[type | None, bool, tuple[str, ...]]:
    """Take a type apart: the plain type, whether None is possible, and choices."""
    parts = get_args(hint) if get_origin(hint) is not list else ()
    is_optional = NoneType in parts
    rest = [part for part in parts if part is not NoneType] if is_optional else [hint]
    if len(rest) != 1:
        return None, False, ()
    plain = rest[0]
    if get_origin(plain) is Literal:
        return str, is_optional, tuple(str(choice) for choice in get_args(plain))
    if get_origin(plain) is list:
        return list, is_optional, ()
    known = plain if plain in (bool, int, float, str, Path) else None
    return known, is_optional, ()


def _bounds(
    kind: type, field: str, plain: type, *, is_optional: bool
) -> tuple[float | None, float | None]:
    """Find a number's bounds by asking the configuration, which knows them."""
    if plain not in (int, float):
        return None, None
    least = next((n for n in (-2, -1, 0, 1) if _accepts(kind, field, plain(n))), 1)
    # One that accepts anything leaves the check to whoever uses the value.
    minimum = _LEAST.get(field, 0) if least == -2 else least
    if is_optional and _accepts(kind, field, plain(minimum)) and (least != -2 or field in _LEAST):
        minimum -= 1
    elif plain is float and least == 1:
        # Above zero, not including it.
        minimum = 0
    maximum = None if _accepts(kind, field, plain(2)) else 1
    return plain(minimum), None if maximum is None else plain(maximum)


def _accepts(kind: type, field: str, value: Any) -> bool:
    neutral = {name: v for name, v in _NEUTRAL.items() if name in {f.name for f in fields(kind)}}
    try:
        kind(**{**neutral, field: value})
    except ConfigurationError:
        return False
    return True


def _meanings(kind: type) -> dict[str, str]:
    """Read what each field does from the class's docstring."""
    from docstring_parser import DocstringStyle, parse

    found = parse(kind.__doc__ or "", style=DocstringStyle.NUMPYDOC).params
    return {
        name.strip(): re.sub(r"\s+", " ", entry.description or "").replace("`", "")
        for entry in found
        for name in entry.arg_name.split(",")
    }
