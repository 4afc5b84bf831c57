"""Files made to harm, and damage where a checksum can tell: one clear line, and no memory taken."""

import subprocess
import sys
import tracemalloc
import zipfile
from dataclasses import replace

import h5py
import numpy as np
import pytest
from fuzz.readers import checkpoint_of, make_whole, write_cxi

import ptychostream as ps
from ptychostream.cli.main import main
from ptychostream.config import read_yaml
from ptychostream.datasets.sources.npz import write_npz
from ptychostream.errors import ConfigurationError, DataContractError
from ptychostream.training.checkpoints import WholeCheckpoints, find_checkpoint


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    return make_whole(tmp_path_factory.mktemp("whole"))


@pytest.fixture
def little_memory():
    """Fail where much memory is taken."""
    tracemalloc.start()
    yield
    _, most = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert most < 2**28


def test_a_flipped_bit_in_an_npz_is_found_before_a_store_is_built(whole, tmp_path):
    path = tmp_path / "scan.npz"
    write_npz(whole.scan, path, compress=False)
    data = bytearray(path.read_bytes())
    data[data.find(whole.scan.patterns.read(np.arange(9)).tobytes()) + 1000] ^= 8
    path.write_bytes(data)
    with pytest.raises(DataContractError, match=r"scan\.npz"):
        ps.build_group_store(path, tmp_path / "s.zarr")
    assert [p.name for p in tmp_path.iterdir()] == ["scan.npz"]


def test_an_npz_that_declares_a_huge_probe_takes_no_memory(whole, tmp_path, little_memory):
    path, bomb = tmp_path / "scan.npz", tmp_path / "bomb.npz"
    write_npz(whole.scan, path, compress=True)
    head = str({"descr": "<c8", "fortran_order": False, "shape": (1, 16384, 16384)})
    head = b"\x93NUMPY\x01\x00" + (118).to_bytes(2, "little") + head.ljust(117).encode() + b"\n"
    with zipfile.ZipFile(path) as old, zipfile.ZipFile(bomb, "w", zipfile.ZIP_DEFLATED) as new:
        for name in old.namelist():
            new.writestr(name, head + bytes(2**20) if "probe" in name else old.read(name))
    with pytest.raises(DataContractError, match=r"bomb\.npz"):
        ps.read_scan(bomb)


@pytest.mark.parametrize("shape", [(10**12, 16, 16), (10**6, 10**6, 16, 16)])
def test_a_cxi_of_more_patterns_than_bytes_takes_no_memory(whole, tmp_path, shape, little_memory):
    path = tmp_path / "scan.cxi"
    write_cxi(path, whole)
    with h5py.File(path, "r+") as file:
        del file["entry_1/data_1/data"]
        file.create_dataset(
            "entry_1/data_1/data", shape, np.uint16, chunks=(1,) * (len(shape) - 2) + (16, 16)
        )
    with pytest.raises(DataContractError, match=r"scan\.cxi"):
        ps.read_scan(path)


def test_a_cxi_does_not_read_other_files_of_the_machine(whole, tmp_path):
    path, secret = tmp_path / "scan.cxi", tmp_path / "secret"
    secret.write_bytes(bytes(16 * 16 * 8))
    write_cxi(path, whole)
    with h5py.File(path, "r+") as file:
        name = "entry_1/instrument_1/source_1/illumination"
        del file[name]
        place = [(str(secret).encode(), 0, 16 * 16 * 8)]
        file.create_dataset(name, (16, 16), np.complex64, external=place)
    with pytest.raises(DataContractError, match="raw files of its own"):
        ps.read_scan(path)


def test_a_link_that_leads_to_itself_is_refused(tmp_path, capsys):
    with h5py.File(tmp_path / "object.h5", "w") as file:
        file["object"] = h5py.SoftLink("/object")
    np.savez(tmp_path / "o.npz", object=np.ones((9, 9), np.complex64), coverage=np.ones((9, 9)))
    words = ["evaluate", tmp_path / "o.npz", "--reference", tmp_path / "object.h5"]
    assert main([str(word) for word in words]) == 1
    said = capsys.readouterr().err
    assert "object.h5" in said
    assert "defect" not in said


@pytest.mark.parametrize(
    "text",
    [
        "a: &a [1, 1, 1]\nb: &b [*a, *a, *a]\nnepochs: [*b, *b, *b]\n",
        "nepochs: " + "[" * 5000 + "]" * 5000,
        "nepochs: 1\nnepochs: 2\n",
        "nepochs: !!python/object/apply:os.system [echo]\n",
    ],
    ids=["references", "brackets", "twice", "code"],
)
def test_yaml_that_is_more_than_plain_values_is_refused(tmp_path, text):
    path = tmp_path / "c.yaml"
    path.write_text(text)
    with pytest.raises(ConfigurationError, match=r"c\.yaml"):
        read_yaml(ps.TrainingConfig, path)


def test_names_from_files_never_steer_a_terminal(whole, tmp_path, capsys):
    evil = "scan\x1b]0;owned\x07\nerror: none"
    scan = replace(whole.scan, provenance={"file": evil, "format": "npz"})
    ps.build_group_store(scan, tmp_path / "s.zarr")
    assert main(["info", str(tmp_path / "s.zarr")]) == 0
    assert main(["info", str(tmp_path / "gone\x1b[2J")]) == 1
    said = "".join(capsys.readouterr())
    assert "owned" in said
    assert "\x1b" not in said
    assert "\x07" not in said
    assert "\nerror: none" not in said


def test_a_run_goes_on_from_the_newest_checkpoint_that_is_whole(whole, tmp_path, caplog):
    folder = tmp_path / "checkpoints"
    for name in ("best-epoch=0.ckpt", "last.ckpt"):
        WholeCheckpoints().save_checkpoint(checkpoint_of(whole.bundle), folder / name)
    data = bytearray((folder / "last.ckpt").read_bytes())
    data[len(data) // 2] ^= 8
    (folder / "last.ckpt").write_bytes(data)
    assert find_checkpoint(tmp_path) == folder / "best-epoch=0.ckpt"
    assert "going on from" in caplog.text
    with pytest.raises(DataContractError, match=r"last\.ckpt"):
        find_checkpoint(folder / "last.ckpt")
    (folder / "best-epoch=0.ckpt").write_bytes(b"")
    with pytest.raises(DataContractError, match=r"\.ckpt"):
        find_checkpoint(tmp_path)


def test_a_checkpoint_is_never_written_elsewhere_first(whole, tmp_path, monkeypatch):
    # On a cluster, TMPDIR is on another file system than the run.
    monkeypatch.setenv("TMPDIR", str(tmp_path / "nowhere"))
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path / "nowhere"))
    path = tmp_path / "checkpoints" / "last.ckpt"
    WholeCheckpoints().save_checkpoint(checkpoint_of(whole.bundle), path)
    assert [p.name for p in path.parent.iterdir()] == ["last.ckpt"]


LIMITED = """
import resource, sys
from ptychostream.cli.main import main
import ptychostream, h5py, scipy.ndimage
kind, room = getattr(resource, sys.argv[1]), int(sys.argv[2])
resource.setrlimit(kind, (room, room))
sys.exit(main(sys.argv[3:]))
"""


@pytest.mark.parametrize(
    ("kind", "room", "told"),
    [("RLIMIT_NOFILE", 4, "Too many open files"), ("RLIMIT_AS", 3 * 2**28, "emory")],
)
def test_a_system_that_gives_no_more_is_one_line(tiny_store, tmp_path, kind, room, told):
    words = ["train", tiny_store.path, "-o", tmp_path / "run", "--model.architecture", "unrolled"]
    run = subprocess.run(
        [sys.executable, "-c", LIMITED, kind, str(room), *map(str, words)],
        capture_output=True,
        text=True,
        check=False,
    )
    assert run.returncode == 1, run.stderr
    assert told in run.stderr.splitlines()[-1]
    assert "defect" not in run.stderr
    assert "Traceback" not in run.stderr


def test_a_folder_that_cannot_be_written_to_is_one_line(tiny_store, tmp_path, capsys):
    (tmp_path / "file").write_text("mine")
    for out in ("file/x.npz", "file/x.h5"):
        assert main(["export", str(tiny_store.path), str(tmp_path / out)]) == 1
        (line,) = capsys.readouterr().err.splitlines()
        assert line.startswith("error: ")
        assert "file" in line
    assert (tmp_path / "file").read_text() == "mine"
