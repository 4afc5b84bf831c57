"""The child's side: take the task, run it, report how it ended, and never outlive the parent."""

import ctypes
import faulthandler
import importlib
import json
import logging
import os
import signal
import sys
import threading
import traceback
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from typing_extensions import override

from ptychostream.children.messages import Done, Failed, Log, Message, Output, Progress, encode
from ptychostream.errors import PtychoStreamError

#: prctl: signal to get when the parent dies.
_PR_SET_PDEATHSIG = 1
_OURS = ("ptychostream", "ptychodus_ext")


class Channel:
    """What a task sends to its parent, and hears from it.

    `send`: takes each message; from any thread.
    `stop`: set once the parent asks the task to stop.
    """

    def __init__(self, send: Callable[[Message], None], stop: threading.Event) -> None:
        self._send, self._stop = send, stop

    def progress(self, done: int, total: int, values: Mapping[str, Any] | None = None) -> None:
        """Report how far the task has come."""
        self._send(Progress(int(done), int(total), dict(values or {})))

    def output(
        self,
        values: Mapping[str, Any] | None = None,
        paths: Mapping[str, str | Path] | None = None,
    ) -> None:
        """Hand over a result."""
        self._send(
            Output(dict(values or {}), {name: Path(path) for name, path in (paths or {}).items()})
        )

    def should_stop(self) -> bool:
        """Return whether the parent has asked to stop."""
        return self._stop.is_set()


def serve(task: str, commands: int, messages: int, lifeline: int, parent: int) -> int:
    """Run a task; return the exit code.

    `commands`, `messages`, `lifeline`: file descriptors: two lines of JSON (header and arguments),
        later `stop`; the task's messages; and a pipe whose end means that the parent is gone.
    """
    for number in (commands, messages, lifeline):
        os.set_inheritable(number, False)  # noqa: FBT003
    _die_with(parent, lifeline)
    faulthandler.enable()
    # Kept open until the process ends, since the parent still writes to it.
    listening = os.fdopen(commands, "rb")
    header, arguments = json.loads(listening.readline()), json.loads(listening.readline())
    stop = threading.Event()
    threading.Thread(target=_listen, args=(listening, stop), daemon=True).start()
    send = _Sender(messages)
    sys.path.extend(entry for entry in header["sys_path"] if entry not in sys.path)
    if header["log_level"] is not None:
        _log_to(send, header["log_level"])
    try:
        module, function = task.split(":")
        values = getattr(importlib.import_module(module), function)(arguments, Channel(send, stop))
        send(Done(dict(values or {})))
    except BaseException as error:  # SystemExit, too: the parent hears of every end
        ours = isinstance(error, PtychoStreamError)
        trace = "" if ours else "".join(traceback.format_exception(error))
        send(Failed(type(error).__name__, str(error), trace))
        return 1
    return 0


def echo(arguments: Mapping[str, Any], channel: Channel) -> Mapping[str, Any]:
    """Return the arguments: the smallest task, which shows that a child can be started."""
    return arguments


class _Sender:
    """Writes messages to a pipe, whole, from any thread."""

    def __init__(self, number: int) -> None:
        self._number, self._lock = number, threading.Lock()

    def __call__(self, message: Message | Failed) -> None:
        data = memoryview(encode(message))
        with self._lock:
            while data:
                data = data[os.write(self._number, data) :]


class _LogHandler(logging.Handler):
    """Sends log records to the parent."""

    def __init__(self, send: _Sender) -> None:
        super().__init__()
        self._send = send

    @override
    def emit(self, record: logging.LogRecord) -> None:
        try:
            self._send(Log(record.levelno, self.format(record)))
        except Exception:  # as all of logging's handlers do it
            self.handleError(record)


def _log_to(send: _Sender, level: int) -> None:
    root = logging.getLogger()
    root.addHandler(_LogHandler(send))
    root.setLevel(max(level, logging.WARNING))
    for name in _OURS:
        logging.getLogger(name).setLevel(level)
    logging.captureWarnings(True)  # noqa: FBT003


def _listen(commands: Any, stop: threading.Event) -> None:
    for line in commands:
        if line == b"stop\n":
            stop.set()


def _die_with(parent: int, lifeline: int) -> None:
    """End this process and all that it starts when the parent dies, however it does.

    A process beside this one waits for the end of the lifeline: code that never lets Python's
    other threads run does not delay it, and processes that the task has started end too.
    """
    if sys.platform == "linux":
        # At once, also where another process holds a copy of the lifeline.
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != parent:
        os._exit(1)
    if os.fork() == 0:
        # Whatever else is open belongs to the task, and must close when the task ends.
        os.closerange(0, lifeline)
        os.closerange(lifeline + 1, os.sysconf("SC_OPEN_MAX"))
        os.read(lifeline, 1)
        os.killpg(0, signal.SIGKILL)
        os._exit(0)
    os.close(lifeline)
