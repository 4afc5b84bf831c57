"""Scratch folders, and what ends the process that has them."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from ptychodus_ext.scratch import scratch_folder

HOLD = """
from ptychodus_ext.scratch import scratch_folder
with scratch_folder() as folder:
    (folder / "stack").write_bytes(b"0" * 1000)
    print(folder, flush=True)
    input()
"""


def test_a_scratch_folder_is_there_for_a_while():
    with scratch_folder() as folder:
        (folder / "file").touch()
    assert not folder.exists()


@pytest.mark.parametrize("end", [signal.SIGTERM, signal.SIGKILL])
def test_a_time_limit_leaves_no_scratch_folder(end, tmp_path):
    environment = {**os.environ, "TMPDIR": str(tmp_path)}
    with subprocess.Popen(
        [sys.executable, "-c", HOLD],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        env=environment,
        text=True,
        start_new_session=True,
    ) as process:
        folder = Path(process.stdout.readline().strip())
        assert folder.is_dir()
        os.killpg(process.pid, end)
        process.wait()
    for _ in range(200):
        if not folder.exists():
            break
        time.sleep(0.05)
    assert not list(tmp_path.iterdir())
