"""Run a command in a fork that ends, as by a kill, at its n-th event on files."""

import builtins
import io
import os
import resource
import signal
import sys
import threading
import time
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

#: Exit code of a process that was ended on purpose.
KILLED = 77

#: What changes names or sizes; each is seen before it happens.
_CHANGES = ("os.rename", "os.remove", "os.mkdir", "os.rmdir", "os.truncate", "os.link")
_WRITES = os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC


class Ended(NamedTuple):
    """How a run ended: its exit code, the events, what it printed, and seconds to the end.

    The seconds count from the event at which it was told to end.
    """

    code: int
    events: list[str]
    text: str
    seconds: float


def run_until(
    command: Callable[[], int],
    root: Path,
    log: Path,
    *,
    last: int | None = None,
    by: str = "kill",
    room: int | None = None,
) -> Ended:
    """Call a command in a fork; it is ended before the event `last`, None lets it end by itself.

    It is ended by a kill, or by Ctrl-C. No file may grow beyond `room` bytes.
    """
    events, told = log.with_suffix(".events"), log.with_suffix(".told")
    events.write_bytes(b"")
    reading, writing = os.pipe()
    sys.stdout.flush()
    pid = os.fork()
    if pid == 0:
        code = 70
        try:
            for number in (1, 2):
                os.dup2(writing, number)
            # Not those that pytest has put in their place.
            sys.stdout = sys.stderr = os.fdopen(2, "w", buffering=1)
            signal.signal(signal.SIGINT, signal.default_int_handler)
            if room is None:
                _watch(root, told, os.open(events, os.O_WRONLY | os.O_APPEND), last, by)
            else:
                resource.setrlimit(resource.RLIMIT_FSIZE, (room, room))
            code = command()
        except BaseException:
            traceback.print_exc()
        finally:
            os._exit(code)
    os.close(writing)
    with os.fdopen(reading) as stream:
        text = stream.read()
    _, status = os.waitpid(pid, 0)
    ended = time.time()
    since = told.stat().st_mtime if told.exists() else ended
    told.unlink(missing_ok=True)
    code = os.waitstatus_to_exitcode(status)
    return Ended(code, events.read_text().splitlines(), text, ended - since)


def _watch(root: Path, told: Path, log: int, last: int | None, by: str) -> None:
    lock, within = threading.RLock(), str(root)
    count = 0

    def event(name: str, path: Any) -> None:
        nonlocal count
        # Buffers that are not written yet are lost, as by a kill.
        with lock:
            if count == last and by == "kill":
                os._exit(KILLED)
            count += 1
            if count - 1 == last:
                os.close(os.open(told, os.O_WRONLY | os.O_CREAT))
                os.kill(os.getpid(), signal.SIGINT)
            os.write(log, f"{name} {path}\n".encode())

    def is_here(path: Any) -> bool:
        if not isinstance(path, str | bytes | os.PathLike):
            return False
        return os.path.abspath(os.fsdecode(path)).startswith(within)  # noqa: PTH100

    def hook(name: str, arguments: tuple[Any, ...]) -> None:
        if name == "open":
            path, _, flags = arguments
            if isinstance(flags, int) and flags & _WRITES and is_here(path):
                event("before open", path)
        elif name in _CHANGES and is_here(arguments[0]):
            event(name, arguments[0])
        elif name == "ctypes.dlsym" and arguments[1] in ("renameat2", "renamex_np"):
            event("exchange", "")

    def watched(opened: Callable[..., Any]) -> Callable[..., Any]:
        def open_and_tell(file: Any, mode: str = "r", *rest: Any, **options: Any) -> Any:
            stream = opened(file, mode, *rest, **options)
            if set(mode) & set("wxa+") and is_here(file):
                # A file that is opened to be written is empty now.
                event("after open", file)
            return stream

        return open_and_tell

    def fsync(handle: int) -> None:
        event("fsync", handle)
        # Nothing is lost by not waiting for the disk here.

    sys.addaudithook(hook)
    io.open, builtins.open = watched(io.open), watched(builtins.open)  # type: ignore[assignment]
    os.fsync = fsync  # type: ignore[assignment]
