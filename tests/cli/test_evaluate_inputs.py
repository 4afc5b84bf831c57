"""What `ptychostream evaluate` says about files that it can't use."""

import json

import h5py
import numpy as np
import pytest

from ptychostream.cli.main import main

SHAPE = (40, 44)


def _object():
    rng = np.random.default_rng(0)
    return np.exp(1j * rng.standard_normal(SHAPE)).astype(np.complex64)


def _spoiled(**changes):
    arrays = {"object": _object(), "coverage": np.full(SHAPE, 5, np.float32), "origin": (0.0, 0.0)}
    return {name: value for name, value in (arrays | changes).items() if value is not None}


def _evaluate(tmp_path, capsys, obj=None, reference=None):
    np.savez(tmp_path / "object.npz", **_spoiled(**(obj or {})))
    path = tmp_path / "reference.npz"
    if not callable(reference):
        np.savez(path, **(reference or {"object": _object()}))
    else:
        path = tmp_path / "reference.h5"
        with h5py.File(path, "w") as file:
            reference(file)
    status = main(["evaluate", str(tmp_path / "object.npz"), "--reference", str(path)])
    return status, capsys.readouterr()


def _with(value, name, index):
    array = np.array(value)
    array[index] = name
    return array


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"coverage": np.ones((3, 3))}, ["'coverage'", "(3, 3)", str(SHAPE)]),
        ({"coverage": np.full(SHAPE, "a")}, ["'coverage'", "<U1"]),
        ({"coverage": np.full(SHAPE, np.nan)}, ["'coverage'", "NaN"]),
        ({"object": _object()[None]}, ["'object'", str((1, *SHAPE)), "(H, W)"]),
        ({"object": np.full(SHAPE, "a")}, ["'object'", "<U1", "(H, W)"]),
        ({"object": np.complex64(1)}, ["'object'", "()", "(H, W)"]),
        ({"object": _with(_object(), np.inf, (0, 0))}, ["'object'", "not finite"]),
        ({"object": np.zeros(SHAPE)}, ["the object is zero everywhere"]),
        ({"origin": np.array([3.0])}, ["'origin'", "[3.]", "(x, y)"]),
        ({"origin": np.array([3.0, np.nan])}, ["'origin'", "nan", "finite"]),
    ],
)
def test_a_result_that_is_not_as_expected_is_refused_by_file_and_key(
    tmp_path, capsys, changes, words
):
    status, said = _evaluate(tmp_path, capsys, obj=changes)
    assert status == 1
    for word in ["object.npz", *words]:
        assert word in said.err
    assert "defect" not in said.err


def _product(centre, pixel):
    def write(file):
        file["object"] = _object()
        for axis, edge in (("x", "width"), ("y", "height")):
            file["object"].attrs[f"center_{axis}_m"] = centre
            file["object"].attrs[f"pixel_{edge}_m"] = pixel

    return write


@pytest.mark.parametrize(
    ("reference", "words"),
    [
        ({"object": np.zeros(SHAPE)}, ["reference.npz", "the object is zero everywhere"]),
        ({"objectGuess": np.full(SHAPE, "a")}, ["reference.npz", "'objectGuess'", "<U1"]),
        ({"object": np.full(SHAPE, 1e300)}, ["reference.npz", "'object'", "not finite"]),
        ({"object": _object(), "origin": 1.0}, ["reference.npz", "'origin' is 1."]),
        ({"object": _object(), "origin": (np.nan, 0)}, ["reference.npz", "'origin'", "nan"]),
        (lambda file: file.create_group("object"), ["reference.h5", "'object'", "group"]),
        (lambda file: file.create_dataset("object", data=1.0), ["reference.h5", "()", "(H, W)"]),
        (lambda file: file.create_dataset("object", data=["a"]), ["reference.h5", "'object'"]),
        (lambda file: file.create_dataset("object", data=[1.0]), ["reference.h5", "'object'"]),
        (_product(np.nan, 1e-9), ["reference.h5", "center_x_m", "nan", "finite"]),
        (_product("left", 1e-9), ["reference.h5", "center_x_m", "left", "finite"]),
        (_product(0.0, [1e-9, 1e-9]), ["reference.h5", "pixel_width_m", "finite"]),
    ],
)
def test_a_reference_that_is_not_as_expected_is_refused_by_file_and_key(
    tmp_path, capsys, reference, words
):
    status, said = _evaluate(tmp_path, capsys, reference=reference)
    assert status == 1
    for word in words:
        assert word in said.err
    assert "defect" not in said.err


def test_files_that_are_as_expected_are_compared(tmp_path, capsys):
    status, _ = _evaluate(tmp_path, capsys, reference=_product(21.5e-9, 1e-9))
    assert status == 0
    assert _evaluate(tmp_path, capsys, obj={"origin": None})[0] == 0
    assert json.loads((tmp_path / "evaluation.json").read_text())["nrmse"] < 1e-6


def test_the_command_says_where_it_measured_no_frc(tmp_path, capsys):
    coverage = np.full(SHAPE, 5)
    coverage[18:22, 20:24] = 0
    status, said = _evaluate(tmp_path, capsys, obj={"coverage": coverage})
    assert status == 0
    assert "no FRC" in said.out + said.err
    assert json.loads((tmp_path / "evaluation.json").read_text())["frc_half_bit"] is None
