"""Whatever is wrong with an input: one clear message, exit code 1, and nothing left behind."""

import io
import os
import pickle
import zipfile
from pathlib import Path

import h5py
import numpy as np
import pytest

import ptychostream as ps
from ptychostream.cli.main import main
from ptychostream.datasets.sources.ptychodus.experiment import write_ptychodus_experiment
from ptychostream.datasets.sources.ptychodus.training import write_ptychodus_training

M, N = 12, 16


# --- NPZ: a function changes the arrays before they are saved -------------------------------


def _arrays(scan) -> dict[str, np.ndarray]:
    return {
        "diff3d": np.sqrt(scan.patterns.read(np.arange(M)), dtype=np.float32),
        "xcoords": scan.positions[:, 0],
        "ycoords": scan.positions[:, 1],
        "probeGuess": scan.probe,
        "objectGuess": scan.object_guess,
    }


def _with(key, change):
    def apply(arrays):
        arrays[key] = change(arrays[key])

    return apply


def _without(*keys):
    def apply(arrays):
        for key in keys:
            del arrays[key]

    return apply


def _poked(value, at=(3, 2, 2)):
    def apply(array):
        array = np.array(array, np.float64 if array.dtype.kind == "f" else array.dtype)
        array[at] = value
        return array

    return apply


ARRAYS = {
    "no patterns": _without("diff3d"),
    "no x": _without("xcoords"),
    "no y": _without("ycoords"),
    "no positions": _without("xcoords", "ycoords"),
    "no probe": _without("probeGuess"),
    "patterns of two axes": _with("diff3d", lambda a: a[0]),
    "patterns of five axes": _with("diff3d", lambda a: a[None, None]),
    "pattern axis last": _with("diff3d", lambda a: np.moveaxis(a, 0, -1).copy()),
    "patterns not square": _with("diff3d", lambda a: a[:, :, :14]),
    "patterns of odd width": _with("diff3d", lambda a: a[:, :15, :15]),
    "no pattern at all": _with("diff3d", lambda a: a[:0]),
    "complex patterns": _with("diff3d", lambda a: a.astype(np.complex64)),
    "patterns of text": _with("diff3d", lambda a: a.astype("U8")),
    "patterns of truth values": _with("diff3d", lambda a: a > 1),
    "patterns of objects": _with("diff3d", lambda a: a.astype(object)),
    "a NaN pixel": _with("diff3d", _poked(np.nan)),
    "an infinite pixel": _with("diff3d", _poked(np.inf)),
    "a negative pixel": _with("diff3d", _poked(-1)),
    "fewer patterns than positions": _with("diff3d", lambda a: a[:-1]),
    "more patterns than positions": _with("diff3d", lambda a: np.concatenate([a, a[:1]])),
    "fewer x than y": _with("xcoords", lambda a: a[:-2]),
    "x of two axes": _with("xcoords", lambda a: np.stack([a, a])),
    "x of text": _with("xcoords", lambda a: a.astype("U8")),
    "a NaN position": _with("xcoords", _poked(np.nan, 3)),
    "an infinite position": _with("ycoords", _poked(np.inf, 3)),
    "a position far away": _with("xcoords", _poked(1e9, 3)),
    "complex positions": _with("xcoords", lambda a: a + 1j),
    "a probe of another size": _with("probeGuess", lambda a: a[:, :8, :8]),
    "a probe of one axis": _with("probeGuess", lambda a: a[0, 0]),
    "a probe of five axes": _with("probeGuess", lambda a: a[None, None]),
    "a NaN in the probe": _with("probeGuess", lambda a: np.where(np.arange(N) == 3, np.nan, a)),
    "a probe of zeros": _with("probeGuess", np.zeros_like),
    "a probe of text": _with("probeGuess", lambda a: a.astype("U8")),
    "an object of three axes": _with("objectGuess", lambda a: np.stack([a, a])),
    "a NaN in the object": _with("objectGuess", lambda a: a * np.nan),
}

# --- NPZ: a function changes the bytes of the file ------------------------------------------


def _saved(arrays, compress=False) -> bytes:
    stream = io.BytesIO()
    (np.savez_compressed if compress else np.savez)(stream, **arrays)
    return stream.getvalue()


def _member(name: str, data: bytes, arrays) -> bytes:
    """An archive whose one member is replaced by these bytes."""
    stream = io.BytesIO(_saved(arrays))
    out = io.BytesIO()
    with zipfile.ZipFile(stream) as old, zipfile.ZipFile(out, "w", zipfile.ZIP_DEFLATED) as new:
        for entry in old.namelist():
            new.writestr(entry, data if entry == f"{name}.npy" else old.read(entry))
    return out.getvalue()


class Canary:
    def __reduce__(self):
        return os.system, ("touch canary",)


def _npy(header: str, data: bytes = b"") -> bytes:
    text = header.encode().ljust(117) + b"\n"
    return b"\x93NUMPY\x01\x00" + len(text).to_bytes(2, "little") + text + data


BYTES = {
    "an empty file": lambda arrays: b"",
    "a text file": lambda arrays: b"x,y\n1,2\n",
    "half a file": lambda arrays: _saved(arrays)[: len(_saved(arrays)) // 2],
    "half a compressed file": lambda arrays: _saved(arrays, compress=True)[:-200],
    "all but the last byte": lambda arrays: _saved(arrays)[:-1],
    "no end of directory": lambda arrays: _saved(arrays)[:-22],
    "a bare npy file": lambda arrays: _npy(
        "{'descr': '<f4', 'fortran_order': False, 'shape': (1,)}", b"1234"
    ),
    "a pickled member": lambda arrays: _member(
        "diff3d",
        _npy("{'descr': '|O', 'fortran_order': False, 'shape': (1,)}", pickle.dumps([Canary()])),
        arrays,
    ),
    "a member that is a pickle": lambda arrays: _member(
        "probeGuess", pickle.dumps(Canary()), arrays
    ),
    "a header of code": lambda arrays: _member(
        "diff3d", _npy("__import__('os').system('touch canary')"), arrays
    ),
    "a header cut short": lambda arrays: _member("diff3d", b"\x93NUMPY\x01\x00\xff", arrays),
    "a shape of negative length": lambda arrays: _member(
        "diff3d", _npy("{'descr': '<f4', 'fortran_order': False, 'shape': (-1, 16, 16)}"), arrays
    ),
    "a shape beyond the data": lambda arrays: _member(
        "diff3d",
        _npy("{'descr': '<f4', 'fortran_order': False, 'shape': (12, 16, 16)}", b"short"),
        arrays,
    ),
    "a shape of terabytes": lambda arrays: _member(
        "xcoords",
        _npy("{'descr': '<f8', 'fortran_order': False, 'shape': (1099511627776,)}", b"short"),
        arrays,
    ),
    "a bomb": lambda arrays: _member(
        "objectGuess",
        _npy("{'descr': '<c8', 'fortran_order': False, 'shape': (40000, 40000)}", bytes(2**24)),
        arrays,
    ),
    "columns first": lambda arrays: _saved(
        {**arrays, "diff3d": np.asfortranarray(arrays["diff3d"])}, compress=True
    ),
}


def _flipped(arrays) -> bytes:
    data = bytearray(_saved(arrays, compress=True))
    data[len(data) // 3] ^= 255
    return bytes(data)


BYTES["a flipped byte"] = _flipped

# --- HDF5 -----------------------------------------------------------------------------------


def _replace(file, name, value):
    attributes = dict(file[name].attrs)
    del file[name]
    file[name] = value
    file[name].attrs.update(attributes)


TRAINING = {
    "no probe": lambda f: f.__delitem__("probe"),
    "no y": lambda f: f.__delitem__("probe_position_y_px"),
    "fewer x than y": lambda f: _replace(f, "probe_position_x_px", f["probe_position_x_px"][:-1]),
    "fewer patterns": lambda f: _replace(f, "patterns", f["patterns"][:-1]),
    "patterns of two axes": lambda f: _replace(f, "patterns", f["patterns"][0]),
    "a NaN position": lambda f: _replace(f, "probe_position_x_px", np.full(M, np.nan)),
    "a probe of another size": lambda f: _replace(f, "probe", f["probe"][..., :8, :8]),
    "patterns that are a group": lambda f: (f.__delitem__("patterns"), f.create_group("patterns")),
    "a link that leads nowhere": lambda f: (
        f.__delitem__("probe"),
        f.__setitem__("probe", h5py.SoftLink("/nowhere")),
    ),
    "a link to itself": lambda f: (
        f.__delitem__("probe"),
        f.__setitem__("probe", h5py.SoftLink("/probe")),
    ),
    "a file that is not there": lambda f: (
        f.__delitem__("patterns"),
        f.__setitem__("patterns", h5py.ExternalLink("none.h5", "/patterns")),
    ),
    "a provenance that is no JSON": lambda f: f.attrs.__setitem__("provenance", "{half"),
}
DIFFRACTION = {
    "no patterns": lambda f: f.__delitem__("patterns"),
    "fewer indexes": lambda f: _replace(f, "indexes", np.arange(M - 1)),
    "indexes of no position": lambda f: _replace(f, "indexes", np.arange(M) + 1000),
    "bad pixels of another size": lambda f: (
        f.__delitem__("bad_pixels") if "bad_pixels" in f else None,
        f.__setitem__("bad_pixels", np.zeros((3, 3), bool)),
    ),
    "a negative count": lambda f: _replace(f, "patterns", -f["patterns"][:].astype(np.int32) - 1),
}
PRODUCT = {
    "no positions": lambda f: f.__delitem__("probe_position_x_m"),
    "no object": lambda f: f.__delitem__("object"),
    "no pixel size": lambda f: f["object"].attrs.__delitem__("pixel_width_m"),
    "a pixel of no size": lambda f: f["object"].attrs.__setitem__("pixel_width_m", 0.0),
    "a NaN position": lambda f: _replace(f, "probe_position_x_m", np.full(M, np.nan)),
    "a probe of one axis": lambda f: _replace(f, "probe", np.ones(N, np.complex64)),
}


def _refused(path: Path, folder: Path, capsys) -> None:
    before = sorted(folder.iterdir())
    assert main(["build", str(path), str(folder / "out.zarr")]) == 1
    said = capsys.readouterr().err.strip().splitlines()
    errors = [line for line in said if line.startswith("error: ")]
    assert len(errors) == 1, said
    assert not any("Traceback" in line for line in said)
    assert path.name in errors[0] or path.parent.name in errors[0], errors
    assert sorted(folder.iterdir()) == before
    assert not Path("canary").exists()


@pytest.fixture(scope="module")
def scan():
    return ps.simulate_scan(num_positions=M, N=N, step=2.5, seed=3)


@pytest.mark.parametrize("what", ARRAYS)
def test_npz_files_with_wrong_arrays_are_refused(scan, tmp_path, capsys, what):
    arrays = _arrays(scan)
    ARRAYS[what](arrays)
    np.savez(tmp_path / "scan.npz", **arrays)
    _refused(tmp_path / "scan.npz", tmp_path, capsys)


@pytest.mark.parametrize("what", BYTES)
def test_npz_files_of_wrong_bytes_are_refused(scan, tmp_path, capsys, monkeypatch, what):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "scan.npz").write_bytes(BYTES[what](_arrays(scan)))
    _refused(tmp_path / "scan.npz", tmp_path, capsys)


@pytest.mark.parametrize("what", TRAINING)
def test_wrong_training_files_are_refused(scan, tmp_path, capsys, what):
    path = tmp_path / "scan.h5"
    write_ptychodus_training(scan, path)
    with h5py.File(path, "r+") as file:
        TRAINING[what](file)
    _refused(path, tmp_path, capsys)


@pytest.mark.parametrize(
    ("name", "what"),
    [("diffraction.h5", what) for what in DIFFRACTION] + [("product.h5", what) for what in PRODUCT],
)
def test_wrong_files_of_ptychodus_are_refused(scan, tmp_path, capsys, name, what):
    folder = tmp_path / "experiment"
    write_ptychodus_experiment(scan, folder)
    with h5py.File(folder / name, "r+") as file:
        (DIFFRACTION if name == "diffraction.h5" else PRODUCT)[what](file)
    _refused(folder, tmp_path, capsys)


@pytest.mark.parametrize("part", [0, 0.3, 0.9])
def test_truncated_hdf5_is_refused(scan, tmp_path, capsys, part):
    path = tmp_path / "scan.h5"
    write_ptychodus_training(scan, path)
    data = path.read_bytes()
    path.write_bytes(data[: int(len(data) * part)])
    _refused(path, tmp_path, capsys)


def test_stores_that_are_none_are_refused(scan, tmp_path, capsys):
    store = ps.build_group_store(scan, tmp_path / "s.zarr")
    (store.path / "manifest.json").unlink()
    _refused(store.path, tmp_path, capsys)
    (tmp_path / "empty").mkdir()
    _refused(tmp_path / "empty", tmp_path, capsys)
    (tmp_path / "round").symlink_to(tmp_path / "round")
    _refused(tmp_path / "round", tmp_path, capsys)


def test_there_are_sixty_and_more():
    assert len(ARRAYS) + len(BYTES) + len(TRAINING) + len(DIFFRACTION) + len(PRODUCT) >= 60
