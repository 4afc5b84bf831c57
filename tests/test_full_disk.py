"""A disk that takes no more: each writer says so in one line, and leaves nothing behind."""

import subprocess
import sys

import numpy as np
import pytest

import ptychostream as ps
from ptychostream.cli.main import main
from ptychostream.errors import DataContractError

#: Runs a command while no file may grow beyond so many bytes.
LIMITED = """
import resource, sys
from ptychostream.cli.main import main
import h5py
if sys.argv[2] == "train":
    import ptychostream.training.fit
resource.setrlimit(resource.RLIMIT_FSIZE, (int(sys.argv[1]),) * 2)
sys.exit(main(sys.argv[2:]))
"""


def run_limited(size, *words):
    return subprocess.run(
        [sys.executable, "-c", LIMITED, str(size), *map(str, words)],
        capture_output=True,
        text=True,
        timeout=600,
        check=False,
    )


def assert_refused(run, folder, before):
    assert run.returncode == 1, run.stderr
    (line,) = [line for line in run.stderr.splitlines() if line.startswith("error: ")]
    assert "could not write" in line
    assert "defect" not in run.stderr
    assert "Traceback" not in run.stderr
    assert "Logging error" not in run.stderr
    assert sorted(path.name for path in folder.rglob("*")) == before


@pytest.mark.parametrize("size", [3_000, 20_000])
@pytest.mark.parametrize("name", ["x.h5", "x.npz"])
def test_an_export_that_finds_no_room_leaves_what_was_there(tiny_store, tmp_path, name, size):
    (tmp_path / name).write_bytes(b"what was there")
    run = run_limited(size, "export", tiny_store.path, tmp_path / name, "--overwrite")
    assert_refused(run, tmp_path, [name])
    assert (tmp_path / name).read_bytes() == b"what was there"


def test_training_that_finds_no_room_keeps_the_last_whole_checkpoint(tiny_store, tmp_path):
    words = ["train", tiny_store.path, "-o", tmp_path / "run", "--batch_size", 9]
    words += ["--model.architecture", "unrolled", "--model.unrolled_width", 8]
    words += ["--execution.logger_backend", "null"]
    assert main([*map(str, words), "--nepochs", "1"]) == 0
    checkpoints = tmp_path / "run" / "checkpoints"
    before = {path.name: path.read_bytes() for path in checkpoints.iterdir()}
    room = min(map(len, before.values())) // 2
    run = run_limited(room, *words, "--nepochs", 3, "--resume")
    assert_refused(run, checkpoints, sorted(before))
    assert {path.name: path.read_bytes() for path in checkpoints.iterdir()} == before


def test_arrays_in_hdf5_files_of_ours_are_checksummed(tiny_store, tmp_path):
    path = tmp_path / "x.h5"
    assert main(["export", str(tiny_store.path), str(path)]) == 0
    data = bytearray(path.read_bytes())
    probe = np.ascontiguousarray(tiny_store.probe).tobytes()
    at = data.find(probe)
    assert at > 0
    data[at + 5] ^= 8
    path.write_bytes(data)
    with pytest.raises(DataContractError, match="'.*x.h5' can't be read"):
        ps.read_scan(path)
