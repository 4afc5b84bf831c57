"""Processes that predict patches: what they may print, how they fail, and when they end."""

import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import numpy as np
import pytest
import tiny
import torch
from tiny import tiny_config, untrained

import ptychostream as ps
from ptychostream.datasets.batches.scaling import scales_of
from ptychostream.errors import ConfigurationError
from ptychostream.reconstruction.groups import groups_of
from ptychostream.reconstruction.predict import inference_loader, predict
from ptychostream.reconstruction.processes import predict_in_processes

CPU, ONE = torch.device("cpu"), ps.PyTorchExecutionConfig(devices=1)


@pytest.fixture
def predicted(tiny_store, tmp_path, monkeypatch):
    """Predict in one process, in whose place a shell script is started."""

    def start(script):
        bundle = untrained(tiny_config(tmp_path), tiny_store)
        groups = groups_of(tiny_store, 0, bundle.config, None)
        program = tmp_path / "program"
        program.write_text(f"#!/bin/sh\npython={sys.executable!r}\n{script}\n")
        program.chmod(0o755)
        monkeypatch.setattr(sys, "executable", str(program))
        scratch = tmp_path / "scratch"
        scratch.mkdir()
        batches, errors = [], []

        def run():
            try:
                batches.extend(
                    predict_in_processes(
                        bundle, tiny_store, groups, ONE, 9, CPU, scratch_folder=scratch
                    )
                )
            except Exception as error:
                errors.append(error)

        # What waits for ever must fail the test, not hang it.
        thread = threading.Thread(target=run, daemon=True)
        thread.start()
        thread.join(60)
        assert not thread.is_alive(), "predict_in_processes waits for ever"
        assert not list(scratch.iterdir())
        if errors:
            raise errors[0]
        return bundle, groups, batches

    return start


FLOOD = "head -c 300000 /dev/zero | tr '\\0' 'x' >&2\n"


def test_what_libraries_print_to_either_output_is_passed_over(predicted, tiny_store):
    bundle, groups, found = predicted(
        FLOOD + "echo no JSON\nprintf '\\377\\n'\n" + 'printf \'half a line\'\nexec "$python" "$@"'
    )
    scales = scales_of(tiny_store, bundle.config.nphotons)
    loader = inference_loader(tiny_store, groups, scales, ONE, 9, CPU)
    model = bundle.model.with_probe(tiny_store.probe, tiny_store.bad_pixels)
    with torch.no_grad():
        expected = list(predict(model, loader, ONE))
    assert len(found) == len(expected) == 8
    for ours, theirs in zip(found, expected, strict=True):
        np.testing.assert_allclose(ours.patches, theirs.patches, atol=1e-5)
        np.testing.assert_array_equal(ours.members, theirs.members)
        np.testing.assert_array_equal(ours.nodes, theirs.nodes)


@pytest.mark.parametrize(
    ("script", "message"),
    [
        (FLOOD + "echo >&2\necho 'disk on fire' >&2\nexit 1", "(?s)0 of 1 failed: .*disk on fire$"),
        ("echo no JSON\nexit 7", "ended with exit code 7"),
        ("exit 0", "ended with exit code 0"),
        ("echo 'a warning' >&2\nkill -9 $$", "was ended by SIGKILL"),
        (
            "echo nonsense > /proc/self/fd/$6\nexec sleep 60",
            "failed: .*no message of a child",
        ),
    ],
    ids=["last words", "no JSON", "no word", "killed", "no message"],
)
def test_a_process_that_fails_is_never_waited_for(predicted, script, message):
    with pytest.raises(ConfigurationError, match=message):
        predicted(script)


def test_processes_that_predict_end_with_their_starter(tiny_store, tmp_path):
    code = f"""
import sys, time
from pathlib import Path
import torch
import ptychostream as ps
sys.path[:0] = {[str(Path(__file__).parent), str(Path(tiny.__file__).parent)]!r}
from tiny import tiny_config, untrained
from test_processes import CPU, ONE, groups_of, predict_in_processes
folder = Path({str(tmp_path)!r})
store = ps.open_group_store({str(tiny_store.path)!r})
bundle = untrained(tiny_config(folder), store)
groups = groups_of(store, 0, bundle.config, None)
# More batches than a process may be ahead: it waits for us to take them.
batches = predict_in_processes(
    bundle, store, groups, ONE, 4, CPU, scratch_folder=folder
)
next(batches)
print("begun", flush=True)
time.sleep(600)
"""
    with subprocess.Popen(
        [sys.executable, "-c", code], stdout=subprocess.PIPE, text=True
    ) as starter:
        assert starter.stdout.readline().strip() == "begun"
        listed = subprocess.run(
            ["ps", "-o", "pid=", "--ppid", str(starter.pid)],
            capture_output=True,
            text=True,
            check=True,
        )
        (worker,) = listed.stdout.split()
        # All that it may be ahead is there: it is in the loop in which it waits.
        deadline = time.monotonic() + 20
        while not list(tmp_path.glob(".ptychostream-predict-*/0-3.npy")):
            assert time.monotonic() < deadline
            time.sleep(0.05)
        assert lives(worker)
        starter.kill()
    deadline = time.monotonic() + 20
    while time.monotonic() < deadline and lives(worker):
        time.sleep(0.05)
    lives_on = lives(worker)
    if lives_on:
        os.kill(int(worker), signal.SIGKILL)
    assert not lives_on


def lives(pid):
    try:
        return Path(f"/proc/{pid}/stat").read_text().split(")")[1].split()[0] != "Z"
    except FileNotFoundError:
        return False
