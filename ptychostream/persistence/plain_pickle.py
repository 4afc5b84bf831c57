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
_MARK = object()


class _Name(NamedTuple):
    """One of the names that a plain pickle may call."""

    make: Callable[..., Any]


class _Unfilled:
    """An array whose shape, type and numbers are still to come."""


def loads_plain(data: bytes, origin: str) -> Any:
    """Read a pickle of plain data; nothing in it can run.

    Parameters
    ----------
    data : bytes
        The pickle.
    origin : str
        What it is, for messages.

    Returns
    -------
    Any
        Dictionaries, lists, tuples, sets, strings, bytes, numbers, None, and NumPy arrays and
        scalars of numbers. TensorFlow's tensors come as arrays.

    Raises
    ------
    DataContractError
        If it holds anything else, or is damaged.
    """
    machine = _Machine()
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
    """The stack machine."""

    def __init__(self) -> None:
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
            self._top(dict)[key] = value
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
            stack.append(function.make(*arguments))
        elif name == "BUILD":
            self._build()
        elif name not in ("PROTO", "FRAME"):
            raise _NotPlain(f"instruction {name} does not make plain data")

    def result(self) -> Any:
        if len(self._stack) != 1 or any(isinstance(v, _Unfilled) for v in self._memo.values()):
            raise _NotPlain("it ends too early")
        return self._stack[0]

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
        pairs = zip(items[::2], items[1::2], strict=True) if name in ("DICT", "SETITEMS") else ()
        if name == "APPENDS":
            self._top(list).extend(items)
        elif name == "SETITEMS":
            self._top(dict).update(pairs)
        elif name == "ADDITEMS":
            self._top(set).update(items)
        else:
            make = {"TUPLE": tuple, "LIST": list, "FROZENSET": frozenset}
            self._stack.append(dict(pairs) if name == "DICT" else make[name](items))

    def _build(self) -> None:
        """Complete an array or a number type; both were memorised before they are complete."""
        state, value = self._pop(), self._pop()
        if isinstance(value, np.dtype):
            whole: Any = value.newbyteorder(state[1]) if state[1] in ("<", ">") else value
        elif isinstance(value, _Unfilled):
            whole = _filled_array(state)
        else:
            raise _NotPlain(f"it gives a {type(value).__name__} a state")
        self._stack.append(whole)
        for key, kept in self._memo.items():
            if kept is value:
                self._memo[key] = whole


def _name(module: str, name: str) -> _Name:
    if (module, name) not in _NAMES:
        raise _NotPlain(f"it asks for '{module}.{name}'")
    return _NAMES[module, name]


def _dtype(code: Any, *_: Any) -> np.dtype[Any]:
    if not isinstance(code, str) or not _NUMERIC.fullmatch(code):
        raise _NotPlain(f"an array of {code!r} is no array of numbers")
    return np.dtype(code)


def _array(numbers: Any, kind: Any, shape: Any, order: Any = "C") -> Any:
    if not isinstance(kind, np.dtype) or not isinstance(numbers, bytes) or order not in ("C", "F"):
        raise _NotPlain("an array is not made of numbers")
    if kind.itemsize * math.prod(shape) != len(numbers):
        raise _NotPlain(f"an array of shape {shape} has {len(numbers)} bytes")
    return np.frombuffer(numbers, dtype=kind).reshape(shape, order=order).copy()


def _filled_array(state: Any) -> Any:
    """Make an array of what NumPy calls its state."""
    _, shape, kind, fortran, numbers = state
    return _array(numbers, kind, shape, "F" if fortran else "C")


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
    return complex(float(real), float(imaginary))


def _same(value: Any, *_: Any) -> Any:
    if not isinstance(value, np.ndarray | np.generic):
        raise _NotPlain("a tensor is not made of numbers")
    return value


def _filled(kind: Any, items: Any = ()) -> Any:
    if not isinstance(items, list | tuple):
        raise _NotPlain("a set is not made of a list")
    return kind(items)


#: All that a plain pickle may call, and what stands in for it here.
_NAMES = {
    ("numpy", "ndarray"): _Name(_empty_array),
    ("numpy", "dtype"): _Name(_dtype),
    ("_codecs", "encode"): _Name(_encode),
    ("dill._dill", "_create_array"): _Name(_array_of_dill),
    ("collections", "OrderedDict"): _Name(partial(_filled, dict)),
    ("tensorflow.python.framework.ops", "convert_to_tensor"): _Name(_same),
    ("tensorflow.python.framework.tensor_conversion", "convert_to_tensor_v2"): _Name(_same),
    **{
        (module, name): _Name(make)
        for module in ("builtins", "__builtin__")
        for name, make in (
            ("bytes", _no_bytes),
            ("complex", _complex),
            ("set", partial(_filled, set)),
            ("frozenset", partial(_filled, frozenset)),
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
