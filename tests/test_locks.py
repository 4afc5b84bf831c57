"""One writer at a time, on any file system, and what a killed one has left counts no more."""

import errno
import fcntl
import json
import logging
import os
import subprocess
import sys
from socket import gethostname

import numpy as np
import pytest

from ptychostream import locks
from ptychostream.cli.main import main
from ptychostream.errors import StoreExistsError
from ptychostream.locks import LOCK, locked, owned

HOLD = """
import sys
from pathlib import Path
from ptychostream.locks import owned
with owned(Path(sys.argv[1]), "busy"):
    print("held", flush=True)
    sys.stdin.read()
"""


@pytest.fixture(params=["with locks", "without locks"])
def system(request, monkeypatch):
    locks._say_fallback.cache_clear()
    if request.param == "without locks":

        def fail(handle, how):
            raise OSError(errno.ENOLCK, "No locks available")

        monkeypatch.setattr(fcntl, "flock", fail)
    return request.param


def held_by_another(folder):
    process = subprocess.Popen(
        [sys.executable, "-c", HOLD, str(folder)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert process.stdout.readline() == "held\n"
    return process


def test_the_second_owner_is_told_who_the_first_is(system, tmp_path):
    with (
        owned(tmp_path, "busy"),
        pytest.raises(StoreExistsError) as caught,
        owned(tmp_path, "busy"),
    ):
        raise AssertionError("it is not let in")
    assert f"busy: process {os.getpid()} on {gethostname()}; wait" in str(caught.value)
    assert list(tmp_path.iterdir()) == []


def test_what_a_killed_owner_has_left_counts_no_more(system, tmp_path):
    process = held_by_another(tmp_path)
    process.kill()
    process.communicate()
    assert (tmp_path / LOCK).exists()
    with owned(tmp_path, "busy"):
        assert json.loads((tmp_path / LOCK).read_text())["pid"] == os.getpid()
    assert list(tmp_path.iterdir()) == []


def test_an_owner_of_another_machine_is_believed_where_there_are_no_locks(tmp_path, monkeypatch):
    monkeypatch.setattr(locks, "_lock", _none)
    (tmp_path / LOCK).write_text(json.dumps({"host": "elsewhere", "pid": 3}))
    with pytest.raises(StoreExistsError, match="process 3 on elsewhere; wait.*or remove"):
        owned(tmp_path, "busy").__enter__()
    assert (tmp_path / LOCK).exists()


def _none(handle):
    raise locks._NoLocksError("this system has none")


@pytest.mark.parametrize("number", [errno.ENOLCK, errno.ENOSYS, errno.EOPNOTSUPP])
def test_where_there_are_no_locks_it_is_said_once(tmp_path, monkeypatch, caplog, number):
    locks._say_fallback.cache_clear()

    def fail(handle, how):
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(fcntl, "flock", fail)
    (tmp_path / "a").mkdir()
    with caplog.at_level(logging.WARNING, "ptychostream"):
        for _ in range(3):
            with locked(tmp_path / "a", "busy"):
                with pytest.raises(StoreExistsError, match="busy: process"):
                    locked(tmp_path / "a", "busy").__enter__()
                # Nothing in the folder is changed.
                assert list((tmp_path / "a").iterdir()) == []
    assert [r.message for r in caplog.records].count(caplog.records[0].message) == 1
    assert "can't be locked here" in caplog.text
    assert [p.name for p in tmp_path.iterdir()] == ["a"]


def test_a_failure_of_another_kind_is_not_hidden(tmp_path, monkeypatch):
    def fail(handle, how):
        raise OSError(errno.EIO, "Input/output error")

    monkeypatch.setattr(fcntl, "flock", fail)
    with pytest.raises(OSError, match="Input/output"):
        locked(tmp_path, "busy").__enter__()


@pytest.mark.parametrize("command", ["reconstruct", "train", "evaluate"])
def test_a_folder_of_results_has_one_writer(tiny_store, tmp_path, capsys, command):
    out = tmp_path / "out"
    out.mkdir()
    (out / "kept.txt").write_text("mine")
    words = {
        "reconstruct": ["reconstruct", tiny_store.path, "-o", out],
        "train": ["train", tiny_store.path, "-o", out, "--model.architecture", "unrolled"],
        "evaluate": [
            "evaluate",
            _object_of(tiny_store, tmp_path),
            "--reference",
            tiny_store.path,
            "-o",
            out,
        ],
    }[command]
    process = held_by_another(out)
    try:
        assert main([str(word) for word in words]) == 1
    finally:
        process.communicate()
    (line,) = capsys.readouterr().err.splitlines()
    assert (
        f"error: '{out}' is being written to by another process: process {process.pid} on" in line
    )
    assert sorted(path.name for path in out.iterdir()) == ["kept.txt"]


def _object_of(store, folder):
    guess = store.object_guess
    path = folder / "object.npz"
    np.savez(path, object=guess, coverage=np.full(guess.shape, 9.0))
    return path
