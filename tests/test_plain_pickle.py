import collections
import os
import pickle
import struct
from pathlib import Path

import numpy as np
import pytest

from ptychostream.errors import DataContractError
from ptychostream.plain_pickle import loads_plain

DATA = Path(__file__).parent / "data"
ARRAY = np.arange(6.0).reshape(2, 3)
PLAIN = {
    "array": ARRAY,
    "again": ARRAY,
    "fortran": np.asfortranarray(ARRAY),
    "big-endian": np.arange(4, dtype=">c16"),
    "flags": np.array([True, False]),
    "nothing": np.zeros((0, 3), np.int8),
    "a number": np.array(3.0),
    "scalar": np.float32(0.1),
    "tuples": ((), (1,), (1, 2), (1, 2, 3), (1, 2, 3, 4)),
    "list": [1, 2.5, "x", None, True, -(2**70), b"\xff\0"],
    "sets": ({1, 2}, frozenset({3})),
    "complex": 1 + 2j,
    "ordered": collections.OrderedDict([("b", 1), ("a", 2)]),
    1: "a key that is no string",
}


@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
def test_plain_data_come_back_as_they_were(protocol):
    read = loads_plain(pickle.dumps(PLAIN, protocol=protocol), "it")
    assert list(read) == list(PLAIN)
    for key, value in PLAIN.items():
        if isinstance(value, np.ndarray | np.generic):
            assert type(read[key]) is type(value)
            assert read[key].dtype == value.dtype
            np.testing.assert_array_equal(read[key], value)
        else:
            assert read[key] == value
    assert read["array"] is read["again"]


def test_a_dictionary_that_tensorflow_and_dill_wrote_is_read_without_them():
    values = loads_plain((DATA / "tensorflow_params.dill").read_bytes(), "it")
    assert (values["N"], values["amp_activation"], values["object.big"]) == (64, "sigmoid", True)
    # A tensor, which unpickling would hand to a function of TensorFlow.
    assert values["probe"].shape == (64, 64, 1)
    assert values["probe"].dtype == np.complex64
    with np.load(DATA / "upstream_forward.npz") as numbers:
        np.testing.assert_array_equal(values["probe"], numbers["probe"])


class Call:
    def __init__(self, function, *arguments, state=None):
        self.reduced = (function, arguments, state)

    def __reduce__(self):
        return self.reduced


class Slots:
    def __init__(self, canary):
        self.canary = canary

    def __setstate__(self, state):
        Path(state["canary"]).mkdir()


def _text(value):
    return b"X" + struct.pack("<I", len(value)) + value


HOSTILE = {
    "a call of os": lambda canary: pickle.dumps(Call(os.mkdir, canary)),
    "a call of os, in text": lambda canary: pickle.dumps(Call(os.mkdir, canary), protocol=0),
    "eval": lambda canary: pickle.dumps(Call(eval, f"__import__('os').mkdir({canary!r})")),
    "a call deep in a dictionary": lambda canary: pickle.dumps(
        {"N": [{"x": (1, Call(os.mkdir, canary))}]}
    ),
    "a call as a key": lambda canary: pickle.dumps({Call(str, canary): 1}),
    "an object of a class": lambda canary: pickle.dumps(Slots(canary)),
    "getattr": lambda canary: pickle.dumps(Call(getattr, "os", "mkdir")),
    "a module's dictionary": lambda canary: b"cos\n__dict__\n.",
    "a dotted name": lambda canary: b"\x80\x04" + _text(b"numpy") + _text(b"dtype.x") + b"\x93.",
    "a name through an allowed module": lambda canary: b"cnumpy\nload\n(" + _text(b"x") + b"tR.",
    "numpy's own exec": lambda canary: b"cnumpy.testing._private.utils\nrunstring\n.",
    "an old-style instance": lambda canary: b"(ios\nmkdir\n.",
    "an instance by class": lambda canary: b"(cos\nmkdir\n" + _text(b"x") + b"o.",
    "a registered extension": lambda canary: b"\x80\x02\x82\x01.",
    "a persistent name": lambda canary: b"P1\n.",
    "a new object": lambda canary: b"\x80\x02cbuiltins\nobject\n)\x81.",
    "an array of objects": lambda canary: pickle.dumps(np.array([Call(os.mkdir, canary)])),
    "an array of plain objects": lambda canary: pickle.dumps(np.array([None, "x"], object)),
    "an array of records": lambda canary: pickle.dumps(np.zeros(2, "i4,f8")),
    "a state for a name": lambda canary: b"cnumpy\ndtype\n}" + _text(b"make") + b"Nsb.",
    "a state for a list": lambda canary: b"]}b.",
    "a call of a list": lambda canary: b"])R.",
    "a call of an array": lambda canary: b"cnumpy.core.multiarray\n_reconstruct\n)R)R.",
    "an array that is never filled": lambda canary: (
        b"cnumpy.core.multiarray\n_reconstruct\n(cnumpy\nndarray\ntR\x940."
    ),
    "a place that was never filled": lambda canary: b"h\x05.",
    "bytes that are not there": lambda canary: b"\x8e" + b"\xff" * 7 + b"\x0f.",
    "a number of many digits": lambda canary: b"I" + b"9" * 10**6 + b"\n.",
    "too many instructions": lambda canary: b"(" + b"N" * 10**5 + b"l.",
    "no end": lambda canary: pickle.dumps({"a": 1})[:-1],
    "an empty file": lambda canary: b"",
    "no pickle": lambda canary: b"PK\x03\x04",
    "a mark for a value": lambda canary: b"((t.",
    "two values": lambda canary: b"NN.",
    "an unhashable key": lambda canary: b"}]Ns.",
    "an odd number of items": lambda canary: b"}(Nu.",
}


@pytest.mark.parametrize("kind", HOSTILE)
def test_what_is_not_plain_data_is_refused_and_nothing_runs(kind, tmp_path):
    canary = tmp_path / "canary"
    with pytest.raises(DataContractError, match="the dictionary is not plain data"):
        loads_plain(HOSTILE[kind](str(canary)), "the dictionary")
    assert not canary.exists()


def test_the_poison_would_have_run(tmp_path):
    pickle.loads(HOSTILE["a call of os"](str(tmp_path / "canary")))
    assert (tmp_path / "canary").exists()


@pytest.mark.parametrize("shape", [(10**12,), (10**6, 10**6), (-1, -6), (2, 4)], ids=str)
def test_an_array_takes_no_more_memory_than_its_numbers(shape):
    state = (1, shape, np.dtype("f8"), False, ARRAY.tobytes())
    lying = Call(np._core.multiarray._reconstruct, np.ndarray, (0,), b"b", state=state)
    with pytest.raises(DataContractError, match="not plain data"):
        loads_plain(pickle.dumps(lying), "it")


def test_references_to_one_value_stay_references():
    # Ten times ten times ... a list: 10**9 values if each were copied.
    value: list = []
    for _ in range(9):
        value = [value] * 10
    read = loads_plain(pickle.dumps(value), "it")
    assert all(part is read[0] for part in read)


def test_a_far_place_in_the_memo_costs_nothing():
    assert loads_plain(b"Nr\xff\xff\xff\x7f.", "it") is None
