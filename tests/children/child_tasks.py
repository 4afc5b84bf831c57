"""Tasks that the tests of the child runner run in real processes."""

import ctypes
import logging
import os
import resource
import signal
import subprocess
import sys
import threading
import time
import warnings
from pathlib import Path

import numpy as np

from ptychostream.errors import DataContractError

logger = logging.getLogger("ptychodus_ext.tests")


def count(arguments, channel):
    for step in range(arguments["steps"]):
        channel.progress(step + 1, arguments["steps"], {"loss": np.float32(1 / (step + 1))})
    channel.output({"mean": np.float64(0.5)}, {"array": Path(arguments["path"])})
    logger.info("counted to %d", arguments["steps"])
    warnings.warn("a warning of a library", stacklevel=1)
    return {"cwd": str(Path.cwd()), "path": arguments["path"]}


def fail(arguments, channel):
    channel.progress(1, 2)
    raise ZeroDivisionError("deliberate")


def refuse(arguments, channel):
    raise DataContractError("'scan.npz' lacks 'diff3d'")


def refuse_late(arguments, channel):
    time.sleep(0.5)
    refuse(arguments, channel)


def write_when_interrupted(arguments, channel):
    def write(number, frame):
        time.sleep(0.5)
        Path(arguments["path"]).write_text("saved")
        sys.exit()

    signal.signal(signal.SIGTERM, write)
    channel.progress(0, 1)
    time.sleep(60)


def return_an_array(arguments, channel):
    return {"array": np.zeros(3)}


def leave(arguments, channel):
    sys.stderr.write("last words\n")
    channel.progress(1, 2)
    os._exit(arguments["code"])


def exit_politely(arguments, channel):
    sys.exit("no more")


def die(arguments, channel):
    channel.progress(1, 2)
    os.kill(os.getpid(), getattr(signal, arguments["signal"]))
    time.sleep(60)


def segfault(arguments, channel):
    ctypes.string_at(0)


def take_all_memory(arguments, channel):
    resource.setrlimit(resource.RLIMIT_AS, (2**30, 2**30))
    np.ones(2**40, np.uint8)


def sleep(arguments, channel):
    Path(arguments["pid_file"]).write_text(str(os.getpid()))
    time.sleep(60)


def sleep_without_death_signal(arguments, channel):
    ctypes.CDLL(None).prctl(1, 0)
    sleep(arguments, channel)


def hold_the_interpreter(arguments, channel):
    """Stay in one call of C that keeps every other Python thread waiting."""
    Path(arguments["pid_file"]).write_text(str(os.getpid()))
    return {"never": 3 ** (10**9)}


def stop_when_asked(arguments, channel):
    channel.progress(0, 1)
    while not channel.should_stop():
        time.sleep(0.01)
    channel.output({"stopped": True})


def spin(arguments, channel):
    step = 0
    while True:
        step += 1
        channel.progress(step, 0)
        time.sleep(0.001)


def print_much(arguments, channel):
    for _ in range(2000):
        sys.stdout.write("W" * 1000 + "\n")
    sys.stdout.write("Y" * 5_000_000)
    sys.stderr.write("Z" * 100_000)
    sys.stdout.write("\n")
    sys.stdout.flush()
    os.write(1, b"\xff bytes that are no text\n")
    return {"printed": True}


def answer_and_linger(arguments, channel):
    threading.Thread(target=time.sleep, args=(60,)).start()
    return {"answered": True}


def write_nonsense(arguments, channel):
    for number in range(3, 64):
        try:
            os.write(number, b"nonsense\n")
        except OSError:
            continue
    time.sleep(60)


def fork_and_die(arguments, channel):
    """Leave a process behind that holds all pipes open."""
    if os.fork() == 0:
        time.sleep(20)
        os._exit(0)
    os.kill(os.getpid(), signal.SIGKILL)


def start_a_process(arguments, channel):
    """Leave a process behind that knows nothing of pipes, and perhaps stay too."""
    process = subprocess.Popen(["sleep", "60"])
    Path(arguments["pid_file"]).write_text(str(process.pid))
    time.sleep(arguments["seconds"])
