"""Read pickles that hold plain data, by a reader that can't do anything else.

A pickle is a program for a small stack machine. This one knows the instructions that make
containers, strings, numbers and NumPy arrays of numbers, and a list of names that stand for
those; Python's own unpickler never sees the bytes, and nothing is imported by name.
"""

import math
import pickletools
import re
from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

import numpy as np

from ptychostream.errors import DataContractError

#: Instructions in a pickle; dictionaries of parameters take some hundreds.
_MAX_INSTRUCTIONS = 50_000
#: What a dictionary may come to with every shared value written out, counting characters, bytes
#: of arrays, and `_ITEM` for each value.
_MOST_WRITTEN, _ITEM = 2**26, 64
#: Containers within each other; dictionaries of parameters have three or four.
_DEEPEST = 32
#: What calls may make for each byte of the pickle: references make one value serve many calls.
_MADE_PER_BYTE, _MADE_AT_LEAST = 4, 2**16
_LARGEST_EDGE, _MOST_AXES = 2**31, 32
#: Characters of a text from the pickle that a message shows.
_SHOWN = 60

_INTEGERS = frozenset({"INT", "BININT", "BININT1", "BININT2", "LONG", "LONG1", "LONG4"})
_TEXTS = frozenset({"UNICODE", "BINUNICODE", "SHORT_BINUNICODE", "BINUNICODE8"})
_BYTES = frozenset({"BINBYTES", "SHORT_BINBYTES", "BINBYTES8", "BYTEARRAY8"})
_LITERALS = _INTEGERS | _TEXTS | _BYTES | {"FLOAT", "BINFLOAT"}
_CONSTANTS: dict[str, Callable[[], Any]] = {
    "NONE": lambda: None,
    "NEWTRUE": lambda: True,
    "NEWFALSE": lambda: False,
    "EMPTY_LIST": list,
    "EMPTY_TUPLE": tuple,
    "EMPTY_DICT": dict,
    "EMPTY_SET": set,
}
_TUPLES = {"TUPLE1": 1, "TUPLE2": 2, "TUPLE3": 3}
_MARKED = frozenset(["TUPLE", "LIST", "DICT", "APPENDS", "SETITEMS", "ADDITEMS", "FROZENSET"])
_PUT = frozenset({"PUT", "BINPUT", "LONG_BINPUT"})
_GET = frozenset({"GET", "BINGET", "LONG_BINGET"})
_NUMERIC = re.compile(r"[<>|=]?([?]|b1|[iu][1248]|f[248]|c(8|16))")
#: Others are hashed part by part, which takes for ever where the parts are shared.
_KEYS = (str, int, float, bool, type(None))
_MARK = object()


class _Name(NamedTuple):
    """One of the names that a plain pickle may call."""

    make: Callable[..., Any]


class _Unfilled:
    """An array whose shape, type and numbers are still to come."""


#: Stands for NumPy's type of arrays of anything.
_OBJECTS = object()


def loads_plain(data: bytes, origin: str) -> Any:
    """Read a pickle of plain data; nothing in it can run.

    Returns: dictionaries, lists, tuples, sets, strings, bytes, numbers, None, and NumPy arrays and
        scalars of numbers. TensorFlow's tensors come as arrays. Keys of dictionaries and members of
        sets are strings, numbers or None.
    """
    return _run(data, origin, takes_objects=False)


def loads_text(data: bytes, origin: str) -> str:
    """Read a pickle of one text, or of an array that holds nothing else; nothing in it can run."""
    value = _run(data, origin, takes_objects=True)
    if not isinstance(value, str):
        raise DataContractError(f"{origin} holds a {type(value).__name__}, expected text")
    return value


def _run(data: bytes, origin: str, *, takes_objects: bool) -> Any:
    machine = _Machine(_MADE_PER_BYTE * len(data) + _MADE_AT_LEAST, takes_objects=takes_objects)
    try:
        for count, (opcode, argument, _) in enumerate(pickletools.genops(data)):
            if count > _MAX_INSTRUCTIONS:
                raise _NotPlain(f"over {_MAX_INSTRUCTIONS} instructions")
            if opcode.name == "STOP":
                return machine.result()
            machine.step(opcode.name, argument)
    except DataContractError as error:
        raise DataContractError(f"{origin} is not plain data: {error}") from None
    # What a damaged or hostile pickle makes of a stack machine is open-ended.
    except Exception as error:
        raise DataContractError(f"{origin} is not plain data: {error}") from error
    raise DataContractError(f"{origin} is not plain data: it has no end")


class _NotPlain(DataContractError):
    pass


class _Machine:
    """The stack machine; its calls make at most so many bytes."""

    def __init__(self, most_made: int, *, takes_objects: bool) -> None:
        self._left, self._takes_objects = most_made, takes_objects
        self._stack: list[Any] = []
        self._memo: dict[int, Any] = {}

    def step(self, name: str, argument: Any) -> None:
        stack = self._stack
        if name in _LITERALS:
            stack.append(bytes(argument) if isinstance(argument, bytearray) else argument)
        elif name in _CONSTANTS:
            stack.append(_CONSTANTS[name]())
        elif name == "MARK":
            stack.append(_MARK)
        elif name in _TUPLES:
            stack.append(tuple(self._pop() for _ in range(_TUPLES[name]))[::-1])
        elif name in _MARKED:
            self._collect(name)
        elif name == "APPEND":
            value = self._pop()
            self._top(list).append(value)
        elif name == "SETITEM":
            value, key = self._pop(), self._pop()
            self._top(dict)[_key(key)] = value
        elif name in _PUT or name == "MEMOIZE":
            self._memo[len(self._memo) if name == "MEMOIZE" else argument] = stack[-1]
        elif name in _GET:
            stack.append(self._memo[argument])
        elif name == "GLOBAL":
            stack.append(_name(*argument.split(" ", 1)))
        elif name == "STACK_GLOBAL":
            attribute, module = self._pop(), self._pop()
            stack.append(_name(module, attribute))
        elif name == "REDUCE":
            arguments, function = self._pop(), self._pop()
            if not isinstance(function, _Name) or not isinstance(arguments, tuple):
                raise _NotPlain("it calls something that is no name")
            if (
                self._takes_objects
                and function.make is _dtype
                and arguments[:1] in (("O8",), ("O",))
            ):
                stack.append(_OBJECTS)
            else:
                stack.append(self._made(function.make(*arguments)))
        elif name == "BUILD":
            self._build()
        elif name not in ("PROTO", "FRAME"):
            raise _NotPlain(f"instruction {name} does not make plain data")

    def result(self) -> Any:
        if len(self._stack) != 1 or any(isinstance(v, _Unfilled) for v in self._memo.values()):
            raise _NotPlain("it ends too early")
        value = self._stack[0]
        if isinstance(value, dict):
            _written(value, {}, 0)
        return value

    def _made(self, value: Any) -> Any:
        if isinstance(value, np.ndarray | np.generic):
            self._left -= value.nbytes
        elif isinstance(value, bytes | dict | set | frozenset):
            self._left -= len(value)
        if self._left < 0:
            raise _NotPlain("its calls make far more than it holds")
        return value

    def _pop(self) -> Any:
        value = self._stack.pop()
        if value is _MARK:
            raise _NotPlain("a mark stands where a value should be")
        return value

    def _top(self, kind: type) -> Any:
        value = self._stack[-1]
        if type(value) is not kind:
            raise _NotPlain(f"a {type(value).__name__} stands where a {kind.__name__} should be")
        return value

    def _collect(self, name: str) -> None:
        """Take what lies above the last mark, and make or fill a container with it."""
        items: list[Any] = []
        while (value := self._stack.pop()) is not _MARK:
            items.append(value)
        items.reverse()
        pairs: dict[Any, Any] = {}
        if name in ("DICT", "SETITEMS"):
            keys = map(_key, items[::2])
            pairs = dict(zip(keys, items[1::2], strict=True))
        if name == "APPENDS":
            self._top(list).extend(items)
        elif name == "SETITEMS":
            self._top(dict).update(pairs)
        elif name == "ADDITEMS":
            self._top(set).update(map(_key, items))
        elif name == "DICT":
            self._stack.append(pairs)
        elif name == "FROZENSET":
            self._stack.append(frozenset(map(_key, items)))
        else:
            self._stack.append(items if name == "LIST" else tuple(items))

    def _build(self) -> None:
        """Complete an array or a number type; both were memorised before they are complete."""
        state, value = self._pop(), self._pop()
        if isinstance(value, np.dtype):
            whole: Any = value.newbyteorder(state[1]) if state[1] in ("<", ">") else value
        elif value is _OBJECTS:
            whole = value
        elif isinstance(value, _Unfilled) and state[2] is _OBJECTS:
            whole = _only_object(state)
        elif isinstance(value, _Unfilled):
            whole = self._made(_filled_array(state))
        else:
            raise _NotPlain(f"it gives a {type(value).__name__} a state")
        self._stack.append(whole)
        for key, kept in self._memo.items():
            if kept is value:
                self._memo[key] = whole


def _key(value: Any) -> Any:
    if type(value) not in _KEYS:
        raise _NotPlain(f"a {type(value).__name__} is a key, expected a string or a number")
    return value


def _written(value: Any, known: dict[int, int], depth: int) -> int:
    """Return the size of a value with what it shares written out; each value is visited once."""
    size = _ITEM
    if isinstance(value, np.ndarray | np.generic):
        size += value.nbytes
    elif isinstance(value, str | bytes):
        size += len(value)
    elif isinstance(value, int):
        size += value.bit_length()
    elif isinstance(value, dict | list | tuple | set | frozenset):
        if id(value) in known:
            return known[id(value)]
        if depth > _DEEPEST:
            raise _NotPlain(f"it has over {_DEEPEST} containers within each other")
        parts = (*value.keys(), *value.values()) if isinstance(value, dict) else value
        size += sum(_written(part, known, depth + 1) for part in parts)
        known[id(value)] = size
    if size > _MOST_WRITTEN:
        raise _NotPlain(f"it refers to the same values until it takes over {_MOST_WRITTEN} bytes")
    return size


def _name(module: Any, name: Any) -> _Name:
    if not isinstance(module, str) or not isinstance(name, str):
        raise _NotPlain(
            f"it asks for a {type(name).__name__} of a {type(module).__name__}, expected names"
        )
    if (module, name) not in _NAMES:
        raise _NotPlain(f"it asks for '{module[:_SHOWN]}.{name[:_SHOWN]}'")
    return _NAMES[module, name]


def _dtype(code: Any, *_: Any) -> np.dtype[Any]:
    if not isinstance(code, str):
        raise _NotPlain(f"an array of type {type(code).__name__} is no array of numbers")
    if not _NUMERIC.fullmatch(code):
        raise _NotPlain(f"an array of {code[:_SHOWN]!r} is no array of numbers")
    return np.dtype(code)


def _shape(shape: Any) -> tuple[int, ...]:
    if type(shape) is not tuple or len(shape) > _MOST_AXES:
        raise _NotPlain(f"an array's shape is no tuple of up to {_MOST_AXES} numbers")
    for edge in shape:
        if type(edge) is not int or not 0 <= edge <= _LARGEST_EDGE:
            raise _NotPlain(
                f"an array's shape has a {type(edge).__name__}, expected whole numbers from 0 to "
                f"{_LARGEST_EDGE}"
            )
    return shape


def _array(numbers: Any, kind: Any, shape: Any, order: Any = "C") -> Any:
    shape = _shape(shape)
    if not isinstance(kind, np.dtype) or not isinstance(numbers, bytes) or order not in ("C", "F"):
        raise _NotPlain("an array is not made of numbers")
    if kind.itemsize * math.prod(shape) != len(numbers):
        raise _NotPlain(f"an array of shape {shape} has {len(numbers)} bytes")
    return np.frombuffer(numbers, dtype=kind).reshape(shape, order=order).copy()


def _filled_array(state: Any) -> Any:
    """Make an array of what NumPy calls its state."""
    _, shape, kind, fortran, numbers = state
    return _array(numbers, kind, shape, "F" if fortran else "C")


def _only_object(state: Any) -> Any:
    """Take the one value out of an array () of anything."""
    _, shape, _, _, values = state
    if shape != () or type(values) is not list or len(values) != 1:
        raise _NotPlain("an array of anything holds more than one value")
    return values[0]


def _array_of_dill(function: Any, _: Any, state: Any, attributes: Any = None) -> Any:
    """Make an array of dill's instruction, which is NumPy's in one step."""
    if not isinstance(function, _Name) or function.make is not _empty_array or attributes:
        raise _NotPlain("an array is not made as NumPy makes it")
    return _filled_array(state)


def _empty_array(kind: Any, *_: Any) -> _Unfilled:
    return _Unfilled()


def _scalar(kind: Any, number: Any) -> Any:
    return _array(number, kind, ())[()]


def _encode(text: Any, encoding: Any = "latin1") -> bytes:
    if not isinstance(text, str) or encoding not in ("latin1", "latin-1"):
        raise _NotPlain("bytes are not written as latin-1")
    return text.encode("latin-1")


def _no_bytes() -> bytes:
    return b""


def _complex(real: Any, imaginary: Any) -> complex:
    if type(real) not in (int, float) or type(imaginary) not in (int, float):
        raise _NotPlain("a complex number is not made of numbers")
    return complex(real, imaginary)


def _same(value: Any, *_: Any) -> Any:
    if not isinstance(value, np.ndarray | np.generic):
        raise _NotPlain("a tensor is not made of numbers")
    return value


def _set(kind: Any, items: Any = ()) -> Any:
    if not isinstance(items, list | tuple):
        raise _NotPlain("a set is not made of a list")
    return kind(map(_key, items))


def _ordered(items: Any = ()) -> dict[Any, Any]:
    if not isinstance(items, list | tuple) or not all(
        isinstance(pair, list | tuple) and len(pair) == 2 for pair in items
    ):
        raise _NotPlain("a dictionary is not made of pairs")
    return {_key(key): value for key, value in items}


#: All that a plain pickle may call, and what stands in for it here.
_NAMES = {
    ("numpy", "ndarray"): _Name(_empty_array),
    ("numpy", "dtype"): _Name(_dtype),
    ("_codecs", "encode"): _Name(_encode),
    ("dill._dill", "_create_array"): _Name(_array_of_dill),
    ("collections", "OrderedDict"): _Name(_ordered),
    ("tensorflow.python.framework.ops", "convert_to_tensor"): _Name(_same),
    ("tensorflow.python.framework.tensor_conversion", "convert_to_tensor_v2"): _Name(_same),
    **{
        (module, name): _Name(make)
        for module in ("builtins", "__builtin__")
        for name, make in (
            ("bytes", _no_bytes),
            ("complex", _complex),
            ("set", partial(_set, set)),
            ("frozenset", partial(_set, frozenset)),
        )
    },
    **{
        (f"numpy.{core}.{module}", name): _Name(make)
        for core in ("core", "_core")
        for module, name, make in (
            ("multiarray", "_reconstruct", _empty_array),
            ("multiarray", "scalar", _scalar),
            ("numeric", "_frombuffer", _array),
        )
    },
}
