"""Run something that may go wrong in a process of its own, and tell how it ended."""

import json
import os
import resource
import select
import signal
import sys
import time
import traceback
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

from ptychostream.errors import PtychoStreamError

#: Bounds of a trial: seconds, and bytes beyond what the process has when it begins.
SECONDS, BYTES = 25.0, 2 * 2**30


class Ending(NamedTuple):
    """How a trial ended.

    `kind` is `returned`, `refused` (an error of ours), `foreign` (another error, which the
    command line calls a defect), `hung` or `crashed`; `text` is what it returned, or the error.
    """

    kind: str
    text: str
    seconds: float


def attempt(function: Callable[[], str]) -> Ending:
    """Call a function in a fork of this process, within bounds."""
    sys.stdout.flush()
    reading, writing = os.pipe()
    began = time.monotonic()
    with warnings.catch_warnings():
        # NumPy's threads, which are idle.
        warnings.simplefilter("ignore", DeprecationWarning)
        pid = os.fork()
    if pid == 0:
        os.close(reading)
        _run(function, writing)
    os.close(writing)
    content = bytearray()
    try:
        while True:
            left = began + SECONDS - time.monotonic()
            if left <= 0 or not select.select([reading], [], [], left)[0]:
                os.kill(pid, signal.SIGKILL)
                os.waitpid(pid, 0)
                return Ending("hung", "", time.monotonic() - began)
            part = os.read(reading, 65536)
            if not part:
                break
            content += part
    finally:
        os.close(reading)
    _, status = os.waitpid(pid, 0)
    seconds = time.monotonic() - began
    if not content:
        return Ending("crashed", f"status {status}", seconds)
    return Ending(*json.loads(content), seconds)


def _run(function: Callable[[], str], writing: int) -> None:
    # What libraries complain of is of no interest here.
    silent = os.open(os.devnull, os.O_WRONLY)
    os.dup2(silent, 1)
    os.dup2(silent, 2)
    pages = int(Path("/proc/self/statm").read_text().split()[0])
    resource.setrlimit(resource.RLIMIT_AS, (pages * os.sysconf("SC_PAGESIZE") + BYTES,) * 2)
    warnings.simplefilter("ignore")
    try:
        ending = ("returned", function())
    except PtychoStreamError as error:
        ending = ("refused", str(error))
    except BaseException as error:
        ending = ("foreign", "".join(traceback.format_exception(error))[-2000:])
    os.write(writing, json.dumps(ending).encode())
    os._exit(0)
