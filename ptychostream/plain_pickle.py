"""Read pickles that hold plain data, by a reader that can't do anything else.

A pickle is a program for a small stack machine. This one knows the instructions that make
containers, strings, numbers and NumPy arrays of numbers, and a list of names that stand for
those; Python's own unpickler never sees the bytes, and nothing is imported by name.
"""

import pickletools
from collections.abc import Callable
from typing import Any

import numpy as np

from ptychostream.errors import DataContractError
from ptychostream.pickle_calls import (
    OBJECTS,
    Callee,
    NotPlain,
    Unfilled,
    callee,
    filled_array,
    key_of,
    number_type,
    only_object,
)

#: Instructions in a pickle; dictionaries of parameters take some hundreds.
_MAX_INSTRUCTIONS = 50_000
#: What a dictionary may come to with every shared value written out, counting characters, bytes
#: of arrays, and `_ITEM` for each value.
_MOST_WRITTEN, _ITEM = 2**26, 64
#: Containers within each other; dictionaries of parameters have three or four.
_DEEPEST = 32
#: What calls may make for each byte of the pickle: references make one value serve many calls.
_MADE_PER_BYTE, _MADE_AT_LEAST = 4, 2**16
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
_MARK = object()


def loads_plain(data: bytes, origin: str) -> Any:
    """Read a pickle of plain data; nothing in it can run.

    Returns dictionaries, lists, tuples, sets, strings, bytes, numbers, None, and NumPy arrays and
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
                raise NotPlain(f"over {_MAX_INSTRUCTIONS} instructions")
            if opcode.name == "STOP":
                return machine.result()
            machine.step(opcode.name, argument)
    except DataContractError as error:
        raise DataContractError(f"{origin} is not plain data: {error}") from None
    # What a damaged or hostile pickle makes of a stack machine is open-ended.
    except Exception as error:
        raise DataContractError(f"{origin} is not plain data: {error}") from error
    raise DataContractError(f"{origin} is not plain data: it has no end")


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
            self._top(dict)[key_of(key)] = value
        elif name in _PUT or name == "MEMOIZE":
            self._memo[len(self._memo) if name == "MEMOIZE" else argument] = stack[-1]
        elif name in _GET:
            stack.append(self._memo[argument])
        elif name == "GLOBAL":
            stack.append(callee(*argument.split(" ", 1)))
        elif name == "STACK_GLOBAL":
            attribute, module = self._pop(), self._pop()
            stack.append(callee(module, attribute))
        elif name == "REDUCE":
            arguments, function = self._pop(), self._pop()
            if not isinstance(function, Callee) or not isinstance(arguments, tuple):
                raise NotPlain("it calls something that is no name")
            if (
                self._takes_objects
                and function.make is number_type
                and arguments[:1] in (("O8",), ("O",))
            ):
                stack.append(OBJECTS)
            else:
                stack.append(self._made(function.make(*arguments)))
        elif name == "BUILD":
            self._build()
        elif name not in ("PROTO", "FRAME"):
            raise NotPlain(f"instruction {name} does not make plain data")

    def result(self) -> Any:
        if len(self._stack) != 1 or any(isinstance(v, Unfilled) for v in self._memo.values()):
            raise NotPlain("it ends too early")
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
            raise NotPlain("its calls make far more than it holds")
        return value

    def _pop(self) -> Any:
        value = self._stack.pop()
        if value is _MARK:
            raise NotPlain("a mark stands where a value should be")
        return value

    def _top(self, kind: type) -> Any:
        value = self._stack[-1]
        if type(value) is not kind:
            raise NotPlain(f"a {type(value).__name__} stands where a {kind.__name__} should be")
        return value

    def _collect(self, name: str) -> None:
        """Take what lies above the last mark, and make or fill a container with it."""
        items: list[Any] = []
        while (value := self._stack.pop()) is not _MARK:
            items.append(value)
        items.reverse()
        pairs: dict[Any, Any] = {}
        if name in ("DICT", "SETITEMS"):
            keys = map(key_of, items[::2])
            pairs = dict(zip(keys, items[1::2], strict=True))
        if name == "APPENDS":
            self._top(list).extend(items)
        elif name == "SETITEMS":
            self._top(dict).update(pairs)
        elif name == "ADDITEMS":
            self._top(set).update(map(key_of, items))
        elif name == "DICT":
            self._stack.append(pairs)
        elif name == "FROZENSET":
            self._stack.append(frozenset(map(key_of, items)))
        else:
            self._stack.append(items if name == "LIST" else tuple(items))

    def _build(self) -> None:
        """Complete an array or a number type; both were memorised before they are complete."""
        state, value = self._pop(), self._pop()
        if isinstance(value, np.dtype):
            whole: Any = value.newbyteorder(state[1]) if state[1] in ("<", ">") else value
        elif value is OBJECTS:
            whole = value
        elif isinstance(value, Unfilled) and state[2] is OBJECTS:
            whole = only_object(state)
        elif isinstance(value, Unfilled):
            whole = self._made(filled_array(state))
        else:
            raise NotPlain(f"it gives a {type(value).__name__} a state")
        self._stack.append(whole)
        for key, kept in self._memo.items():
            if kept is value:
                self._memo[key] = whole


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
            raise NotPlain(f"it has over {_DEEPEST} containers within each other")
        parts = (*value.keys(), *value.values()) if isinstance(value, dict) else value
        size += sum(_written(part, known, depth + 1) for part in parts)
        known[id(value)] = size
    if size > _MOST_WRITTEN:
        raise NotPlain(f"it refers to the same values until it takes over {_MOST_WRITTEN} bytes")
    return size
