"""What each field of a configuration is: for messages, help, pages and other programs."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from types import NoneType, UnionType
from typing import Any, Literal, Union, get_args, get_origin

#: What a kind of value is called.
_WORDS: dict[Any, str] = {
    bool: "true or false",
    int: "a whole number",
    float: "a number",
    str: "text",
    Path: "a path",
    list: "a list of whole numbers",
}
#: Bounds as they stand in a type, and in words.
_BOUNDS = {"ge": "at least", "gt": "above", "le": "at most", "lt": "below"}


@dataclass(frozen=True, kw_only=True)
class FieldDescription:
    """What is declared at one field.

    Attributes
    ----------
    name : str
        Its name.
    kind : type
        bool, int, float, str, Path, list, or a configuration.
    default : object
        Its default.
    is_optional : bool
        Whether it may be None.
    choices : tuple
        All values that it may have; empty where any of its kind is.
    bounds : dict of str to float
        Limits by `ge`, `gt`, `le` and `lt`, and `multiple_of`.
    meaning : str
        What it does, a sentence or two.
    """

    name: str
    kind: type
    default: Any
    is_optional: bool
    choices: tuple[Any, ...]
    bounds: dict[str, float]
    meaning: str

    @property
    def allowed(self) -> str:
        """The values that the field may have, in words."""
        if self.choices:
            return ", ".join(map(repr, self.choices)) + (", None" if self.is_optional else "")
        words = _WORDS.get(self.kind) or f"a {self.kind.__name__}"
        if self.bounds.get("multiple_of") == 2:
            words = "an even number"
        limits = []
        for name, relation in _BOUNDS.items():
            if name in self.bounds:
                limit = self.bounds[name]
                if self.kind is int and name == "gt":
                    relation, limit = "at least", limit + 1
                limits.append(f"{relation} {limit:g}")
        if limits:
            words += " " + " and ".join(limits)
        return words + (" or None" if self.is_optional else "")


def describe_fields(kind: type) -> dict[str, FieldDescription]:
    """Describe the fields of a configuration, by name."""
    declared = kind.__pydantic_fields__  # type: ignore[attr-defined]
    described = {}
    for name, info in declared.items():
        plain, is_optional, choices = _examine(info.annotation)
        described[name] = FieldDescription(
            name=name,
            kind=plain,
            default=info.get_default(call_default_factory=True),
            is_optional=is_optional,
            choices=choices,
            bounds=dict(_limits(info.annotation, info.metadata)),
            meaning=" ".join((info.description or "").split()),
        )
    return described


def _examine(hint: Any) -> tuple[type, bool, tuple[Any, ...]]:
    """Take a type apart: the plain type, whether None is possible, and choices."""
    origin = get_origin(hint)
    if origin in (Union, UnionType):
        (rest,) = (part for part in get_args(hint) if part is not NoneType)
        return _examine(rest)[0], True, _examine(rest)[2]
    if origin is Literal:
        return str, False, get_args(hint)
    if hasattr(hint, "__metadata__"):
        return _examine(hint.__origin__)
    return origin or hint, False, ()


def _limits(hint: Any, metadata: Any) -> Iterator[tuple[str, float]]:
    """Yield the limits of a number, wherever in its type they stand."""
    for part in metadata:
        # A `Field(ge=..., lt=...)` inside a type keeps its limits in a list of its own.
        yield from _limits(None, getattr(part, "metadata", ()))
        for name in (*_BOUNDS, "multiple_of"):
            if (limit := getattr(part, name, None)) is not None:
                yield name, limit
    for part in (hint, *get_args(hint)):
        if hasattr(part, "__metadata__"):
            yield from _limits(None, part.__metadata__)
