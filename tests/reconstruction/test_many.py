"""Experiments that workers of a dask cluster share, where workers and scheduler are killed."""

import csv
import json
import os
import signal
import subprocess
import sys
import threading
import time
from contextlib import contextmanager

import pytest

import ptychostream as ps
from ptychostream.cli.main import main

pytest.importorskip("distributed", reason="the dask extra is not installed")

NUMBER = 5


@contextmanager
def _process(kind, *options):
    """Run dask's own command, which nothing starts again."""
    command = [sys.executable, "-m", f"distributed.cli.dask_{kind}", "--no-dashboard", *options]
    with subprocess.Popen(command, stderr=subprocess.DEVNULL) as process:
        try:
            yield process
        finally:
            process.kill()


@contextmanager
def _cluster(file):
    """A scheduler and two workers; yields the scheduler's process and address."""
    name = ("--scheduler-file", str(file))
    worker = (*name, "--no-nanny", "--nthreads", "1")
    with (
        _process("scheduler", *name, "--port", "0", "--host", "127.0.0.1") as scheduler,
        _process("worker", *worker),
        _process("worker", *worker),
    ):
        while not (file.exists() and file.stat().st_size):
            time.sleep(0.02)
        yield scheduler, json.loads(file.read_text())["address"]


@contextmanager
def _meanwhile(find, act):
    """Do something, once, as soon as files of a pattern are there."""

    def watch():
        while not (found := find()):
            time.sleep(0.005)
        act(found)

    thread = threading.Thread(target=watch, daemon=True)
    thread.start()
    yield
    thread.join(10)
    assert not thread.is_alive()


def _objects(out):
    return {path.parent.name: path.read_bytes() for path in out.glob("*/object.npz")}


def test_killed_workers_and_a_killed_scheduler_cost_no_result(tmp_path, capsys):
    scans = [ps.simulate_scan(num_positions=9, N=16, step=2.5, seed=n) for n in range(NUMBER)]
    store = ps.build_group_store(scans, tmp_path / "many.zarr", progress=False)
    words = ["reconstruct", str(store.path), "--experiment", "all", "--passes", "1", "-q"]
    words += ["--checks_fit", "false", "-o"]
    killed, lost = tmp_path / "killed", tmp_path / "lost"

    def owners():
        """Processes that work on an experiment, as its lock names them."""
        texts = [path.read_text() for path in killed.glob("*/.lock")]
        return [json.loads(text)["pid"] for text in texts if text]

    with _cluster(tmp_path / "scheduler.json") as (scheduler, address):
        with _meanwhile(owners, lambda found: os.kill(found[0], signal.SIGKILL)):
            assert main([*words, str(killed), "--dask", address]) == 0
        with (killed / "summary.csv").open() as stream:
            numbers = [int(row["experiment"]) for row in csv.DictReader(stream)]
        assert numbers == list(range(NUMBER))
        capsys.readouterr()
        with _meanwhile(lambda: list(lost.glob("*/report.json")), lambda _: scheduler.kill()):
            assert main([*words, str(lost), "--dask", address]) == 1
    said = capsys.readouterr().err
    assert "the dask scheduler" in said
    assert "--resume" in said
    there = {path: path.stat().st_mtime_ns for path in lost.glob("*/object.npz")}
    assert 0 < len(there) < NUMBER
    assert main([*words, str(lost), "--resume"]) == 0
    # By two workers of which one died, and by one worker and this process.
    assert _objects(lost) == _objects(killed)
    assert len(_objects(lost)) == NUMBER
    assert all(path.stat().st_mtime_ns == before for path, before in there.items())
