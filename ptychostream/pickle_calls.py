"""All that a plain pickle may call, and what stands in for it: arrays, numbers, and their parts."""

import math
import re
from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

import numpy as np

from ptychostream.errors import DataContractError

_LARGEST_EDGE, _MOST_AXES = 2**31, 32
#: Characters of a text from the pickle that a message shows.
_SHOWN = 60

_NUMERIC = re.compile(r"[<>|=]?([?]|b1|[iu][1248]|f[248]|c(8|16))")
#: Others are hashed part by part, which takes for ever where the parts are shared.
_KEYS = (str, int, float, bool, type(None))


class NotPlain(DataContractError):
    """A pickle asks for what is no plain data."""


class Callee(NamedTuple):
    """One of the names that a plain pickle may call."""

    make: Callable[..., Any]


class Unfilled:
    """An array whose shape, type and numbers are still to come."""


#: Stands for NumPy's type of arrays of anything.
OBJECTS = object()


def key_of(value: Any) -> Any:
    """Return a value that may be a key or a member of a set."""
    if type(value) not in _KEYS:
        raise NotPlain(f"a {type(value).__name__} is a key, expected a string or a number")
    return value


def callee(module: Any, name: Any) -> Callee:
    """Return what stands in for a name that a pickle may call."""
    if not isinstance(module, str) or not isinstance(name, str):
        raise NotPlain(
            f"it asks for a {type(name).__name__} of a {type(module).__name__}, expected names"
        )
    if (module, name) not in _NAMES:
        raise NotPlain(f"it asks for '{module[:_SHOWN]}.{name[:_SHOWN]}'")
    return _NAMES[module, name]


def number_type(code: Any, *_: Any) -> np.dtype[Any]:
    """Make a data type of numbers from NumPy's code."""
    if not isinstance(code, str):
        raise NotPlain(f"an array of type {type(code).__name__} is no array of numbers")
    if not _NUMERIC.fullmatch(code):
        raise NotPlain(f"an array of {code[:_SHOWN]!r} is no array of numbers")
    return np.dtype(code)


def _shape(shape: Any) -> tuple[int, ...]:
    if type(shape) is not tuple or len(shape) > _MOST_AXES:
        raise NotPlain(f"an array's shape is no tuple of up to {_MOST_AXES} numbers")
    for edge in shape:
        if type(edge) is not int or not 0 <= edge <= _LARGEST_EDGE:
            raise NotPlain(
                f"an array's shape has a {type(edge).__name__}, expected whole numbers from 0 to "
                f"{_LARGEST_EDGE}"
            )
    return shape


def _array(numbers: Any, kind: Any, shape: Any, order: Any = "C") -> Any:
    shape = _shape(shape)
    if not isinstance(kind, np.dtype) or not isinstance(numbers, bytes) or order not in ("C", "F"):
        raise NotPlain("an array is not made of numbers")
    if kind.itemsize * math.prod(shape) != len(numbers):
        raise NotPlain(f"an array of shape {shape} has {len(numbers)} bytes")
    return np.frombuffer(numbers, dtype=kind).reshape(shape, order=order).copy()


def filled_array(state: Any) -> Any:
    """Make an array of what NumPy calls its state."""
    _, shape, kind, fortran, numbers = state
    return _array(numbers, kind, shape, "F" if fortran else "C")


def only_object(state: Any) -> Any:
    """Take the one value out of an array () of anything."""
    _, shape, _, _, values = state
    if shape != () or type(values) is not list or len(values) != 1:
        raise NotPlain("an array of anything holds more than one value")
    return values[0]


def _array_of_dill(function: Any, _: Any, state: Any, attributes: Any = None) -> Any:
    """Make an array of dill's instruction, which is NumPy's in one step."""
    if not isinstance(function, Callee) or function.make is not _empty_array or attributes:
        raise NotPlain("an array is not made as NumPy makes it")
    return filled_array(state)


def _empty_array(kind: Any, *_: Any) -> Unfilled:
    return Unfilled()


def _scalar(kind: Any, number: Any) -> Any:
    return _array(number, kind, ())[()]


def _encode(text: Any, encoding: Any = "latin1") -> bytes:
    if not isinstance(text, str) or encoding not in ("latin1", "latin-1"):
        raise NotPlain("bytes are not written as latin-1")
    return text.encode("latin-1")


def _no_bytes() -> bytes:
    return b""


def _complex(real: Any, imaginary: Any) -> complex:
    if type(real) not in (int, float) or type(imaginary) not in (int, float):
        raise NotPlain("a complex number is not made of numbers")
    return complex(real, imaginary)


def _same(value: Any, *_: Any) -> Any:
    if not isinstance(value, np.ndarray | np.generic):
        raise NotPlain("a tensor is not made of numbers")
    return value


def _set(kind: Any, items: Any = ()) -> Any:
    if not isinstance(items, list | tuple):
        raise NotPlain("a set is not made of a list")
    return kind(map(key_of, items))


def _ordered(items: Any = ()) -> dict[Any, Any]:
    if not isinstance(items, list | tuple) or not all(
        isinstance(pair, list | tuple) and len(pair) == 2 for pair in items
    ):
        raise NotPlain("a dictionary is not made of pairs")
    return {key_of(key): value for key, value in items}


#: All that a plain pickle may call, and what stands in for it here.
_NAMES = {
    ("numpy", "ndarray"): Callee(_empty_array),
    ("numpy", "dtype"): Callee(number_type),
    ("_codecs", "encode"): Callee(_encode),
    ("dill._dill", "_create_array"): Callee(_array_of_dill),
    ("collections", "OrderedDict"): Callee(_ordered),
    ("tensorflow.python.framework.ops", "convert_to_tensor"): Callee(_same),
    ("tensorflow.python.framework.tensor_conversion", "convert_to_tensor_v2"): Callee(_same),
    **{
        (module, name): Callee(make)
        for module in ("builtins", "__builtin__")
        for name, make in (
            ("bytes", _no_bytes),
            ("complex", _complex),
            ("set", partial(_set, set)),
            ("frozenset", partial(_set, frozenset)),
        )
    },
    **{
        (f"numpy.{core}.{module}", name): Callee(make)
        for core in ("core", "_core")
        for module, name, make in (
            ("multiarray", "_reconstruct", _empty_array),
            ("multiarray", "scalar", _scalar),
            ("numeric", "_frombuffer", _array),
        )
    },
}
