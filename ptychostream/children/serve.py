"""The child's side: take the task, run it, say how it ended, and never outlive the parent."""

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
from collections.abc import Mapping
from typing import Any

from ptychostream.children.channel import Channel
from ptychostream.children.messages import Done, Failed, Log, Message, encode
from ptychostream.errors import PtychoStreamError

#: prctl: signal to get when the parent dies.
_PR_SET_PDEATHSIG = 1
_OURS = ("ptychostream", "ptychodus_ext")


def serve(commands: int, messages: int, parent: int) -> int:
    """Run the task that the parent names.

    Parameters
    ----------
    commands : int
        File descriptor: two lines of JSON, the header and the arguments, later `stop`. Its
        end means that the parent is gone.
    """
    _die_with(parent)
    faulthandler.enable()
    for number in (commands, messages):
        os.set_inheritable(number, False)  # noqa: FBT003
    # Kept open until the process ends: its end would be heard as the parent's.
    listening = os.fdopen(commands, "rb")
    header, arguments = json.loads(listening.readline()), json.loads(listening.readline())
    stop = threading.Event()
    threading.Thread(target=_listen, args=(listening, stop), daemon=True).start()
    send = _Sender(messages)
    sys.path.extend(entry for entry in header["sys_path"] if entry not in sys.path)
    _log_to(send, header["log_level"])
    try:
        module, function = header["task"].split(":")
        task = getattr(importlib.import_module(module), function)
        values = task(arguments, Channel(send, stop))
        send(Done(dict(values or {})))
    except BaseException as error:
        send(_failure(error))
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

    def emit(self, record: logging.LogRecord) -> None:
        """Send a record."""
        try:
            self._send(Log(record.levelno, self.format(record)))
        except Exception:
            self.handleError(record)


def _log_to(send: _Sender, level: int) -> None:
    root = logging.getLogger()
    root.addHandler(_LogHandler(send))
    root.setLevel(max(level, logging.WARNING))
    for name in _OURS:
        logging.getLogger(name).setLevel(level)
    logging.captureWarnings(True)  # noqa: FBT003


def _failure(error: BaseException) -> Failed:
    """Describe an exception: users get the message of an error of ours, others a traceback."""
    kind = type(error).__name__
    summary = f"{kind}: {error}" if str(error) else kind
    if isinstance(error, PtychoStreamError):
        return Failed(summary, "")
    return Failed(summary, "".join(traceback.format_exception(error)))


def _listen(commands: Any, stop: threading.Event) -> None:
    for line in commands:
        if line == b"stop\n":
            stop.set()
    # The parent is gone: nobody wants the result. Workers of the task go too.
    os.killpg(0, signal.SIGKILL)


def _die_with(parent: int) -> None:
    """Have Linux kill this process when its parent dies, even if Python never runs again."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != parent:
        os._exit(1)
