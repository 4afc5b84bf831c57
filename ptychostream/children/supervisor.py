"""The thread that owns a child process: starts it, listens, sees it end, kills it."""

import logging
import os
import re
import selectors
import signal
import subprocess
import sys
import sysconfig
import threading
import time
from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

from ptychostream.children.child_error import ChildError, describe_exit
from ptychostream.children.messages import Done, Failed, Log, Message, decode, encode_json

#: Longest time between two looks at a silent child.
_TICK_S = 0.05
#: How long a child may take to end after its last message.
_FAREWELL_S = 5.0
#: Lines of stderr that stand in the error of a child that ended without a message.
_LAST_WORDS = 20
_READ_BYTES = 1 << 16
#: A line of printed text that never ends is handed on in pieces of this size.
_LONGEST_TEXT = 1 << 13


@dataclass(frozen=True)
class End:
    """The child is gone; `error` is None where it finished or was stopped."""

    error: ChildError | None


class Supervisor:
    """Owns a child process, from its start to its end.

    Linux kills a child when the *thread* that started it ends, so one thread does both: start
    the child, and stay until it is gone. `receive` takes each message and at last an `End`, and
    is called in this thread; the other arguments are those of `run.Job` and `run.ChildGroup`.
    """

    def __init__(
        self,
        task: str,
        arguments: bytes,
        receive: Callable[[Message | End], None],
        *,
        grace_s: float,
        environment: Mapping[str, str],
        log: logging.Logger | None,
        printed_level: int | None,
    ) -> None:
        module, _, function = task.partition(":")
        if not module or not function:
            raise ValueError(f"task {task!r} must be named as 'module:function'")
        self._task, self._arguments, self._receive = task, arguments, receive
        self._grace_s, self._environment = grace_s, environment
        self._log, self._printed_level = log, printed_level
        self._thread = threading.Thread(target=self._run, name=f"child {task}", daemon=True)
        self._has_begun = threading.Event()
        #: Whether the task is to end by itself, and whether the child is to be gone soon.
        self.asked, self.stopping = threading.Event(), threading.Event()
        self._process: subprocess.Popen[bytes] | None = None
        self._start_error: OSError | None = None
        self._last_words: deque[str] = deque(maxlen=_LAST_WORDS)
        self._outcome: Done | Failed | None = None

    def start_child(self) -> None:
        """Start the child, and return once its process exists; ChildError if it can't be."""
        if not hasattr(os, "killpg"):
            raise ChildError(
                f"{self._task} runs in a process of its own, which needs Linux or macOS; use one "
                "device, or run it there"
            )
        self._thread.start()
        self._has_begun.wait()
        if self._start_error is not None:
            raise ChildError(
                f"could not start a process for {self._task}: {self._start_error}"
            ) from self._start_error

    def interrupt_child(self) -> None:
        """Send the child what asks a program to end."""
        if self._process is not None:
            self._process.send_signal(signal.SIGTERM)

    def join(self, seconds: float) -> None:
        """Wait until the child is gone, but not for longer."""
        if self._thread.ident is not None:
            self._thread.join(seconds)

    def _run(self) -> None:
        try:
            pipes = [os.pipe() for _ in range(3)]
        except OSError as error:
            self._start_error = error
            self._has_begun.set()
            return
        (commands_out, commands_in), (messages_out, messages_in), (lifeline, life) = pipes
        theirs, ours = (commands_out, messages_in, lifeline), (commands_in, messages_out, life)
        try:
            self._process = process = self._start(theirs)
        except OSError as error:
            self._start_error = error
            for number in ours:
                os.close(number)
            return
        finally:
            for number in theirs:
                os.close(number)
            self._has_begun.set()
        try:
            with process:
                try:
                    exit_code = self._serve(process, commands_in, messages_out)
                finally:
                    _kill(process)
            self._receive(End(self._error(exit_code)))
        except Exception as error:
            # Who waits for messages has to be told, or waits without end.
            failure = ChildError(f"listening to {self._task} failed: {error}")
            failure.__cause__ = error
            self._receive(End(failure))
        finally:
            for number in ours:
                os.close(number)

    def _start(self, descriptors: tuple[int, ...]) -> subprocess.Popen[bytes]:
        numbers = [str(number) for number in (*descriptors, os.getpid())]
        return subprocess.Popen(
            # -P: no module is taken from the folder that the program happens to run in.
            [sys.executable, "-P", "-m", "ptychostream.children", self._task, *numbers],
            stdin=subprocess.DEVNULL,
            stdout=None if self._printed_level is None else subprocess.PIPE,
            stderr=subprocess.PIPE,
            pass_fds=descriptors,
            env={**_python_environment(), **self._environment},
            # Its own group, so that workers of its own are killed with it, and Ctrl-C in
            # a terminal reaches the parent alone, which then stops the child.
            start_new_session=True,
        )

    def _serve(self, process: subprocess.Popen[bytes], commands: int, messages: int) -> int:
        assert process.stderr is not None
        header = {
            "sys_path": [entry for entry in sys.path if entry],
            "log_level": None if self._log is None else self._log.getEffectiveLevel(),
        }
        pending = encode_json(header) + self._arguments
        streams = {
            messages: _Lines(self._hear),
            process.stderr.fileno(): _Lines(self._hear_stderr, is_text=True),
        }
        if process.stdout is not None:
            streams[process.stdout.fileno()] = _Lines(self._print, is_text=True)
        for number in (commands, *streams):
            os.set_blocking(number, False)
        is_told = is_stopping = False
        deadline: float | None = None
        with selectors.DefaultSelector() as selector:
            for number in streams:
                selector.register(number, selectors.EVENT_READ)
            selector.register(commands, selectors.EVENT_WRITE)
            while process.poll() is None:
                for key, _ in selector.select(_TICK_S):
                    if key.fd == commands:
                        pending = _write(commands, pending)
                        if not pending:
                            selector.unregister(commands)
                    elif not _read(key.fd, streams[key.fd]):
                        selector.unregister(key.fd)
                if self.stopping.is_set() and not is_stopping:
                    is_stopping, deadline = True, time.monotonic() + self._grace_s
                elif deadline is None and self._outcome is not None:
                    deadline = time.monotonic() + _FAREWELL_S
                if (is_stopping or self.asked.is_set()) and not (is_told or pending):
                    is_told = True
                    _write(commands, b"stop\n")
                if deadline is not None and time.monotonic() > deadline:
                    _kill(process)
        for number, lines in streams.items():
            # What was written before its end is still in the pipes.
            while _read(number, lines, until_empty=True):
                pass
            lines.finish()
        return process.wait()

    def _hear(self, line: bytes) -> None:
        message = decode(line)
        if isinstance(message, Done | Failed):
            self._outcome = message
        if isinstance(message, Log) and self._log is not None:
            self._log.log(message.level, "%s", message.text)
        if not isinstance(message, Failed):
            self._receive(message)

    def _hear_stderr(self, line: bytes) -> None:
        self._last_words.append(self._print(line))

    def _print(self, line: bytes) -> str:
        text = line.decode("utf-8", "backslashreplace").rstrip()
        if text and self._log is not None:
            self._log.log(self._printed_level or logging.INFO, "%s", text)
        return text

    def _error(self, exit_code: int) -> ChildError | None:
        outcome = self._outcome
        if isinstance(outcome, Done) or self.stopping.is_set():
            return None
        if outcome is not None:
            summary = f"{outcome.kind}: {outcome.text}" if outcome.text else outcome.kind
            text = "\n".join(filter(None, (summary, outcome.traceback)))
            return ChildError(text, exit_code=exit_code, cause=outcome)
        words = "\n".join(filter(None, self._last_words))
        return ChildError(describe_exit(self._task, exit_code, words), exit_code=exit_code)


class _Lines:
    """Bytes in, lines out: whole records, or printed text, in which a long line comes in pieces."""

    def __init__(self, take: Callable[[bytes], object], *, is_text: bool = False) -> None:
        self._take, self._is_text = take, is_text
        self._ends = re.compile(b"[\n\r]" if is_text else b"\n")
        self._parts: list[bytes] = []

    def add(self, data: bytes) -> None:
        """Take bytes, and hand on the lines that they complete."""
        *complete, rest = self._ends.split(data)
        for line in complete:
            self._parts.append(line)
            self.finish()
        self._parts.append(rest)
        if self._is_text and sum(map(len, self._parts)) > _LONGEST_TEXT:
            self.finish()

    def finish(self) -> None:
        """Hand on what is left."""
        line = b"".join(self._parts)
        self._parts.clear()
        if line:
            self._take(line)


def _python_environment() -> dict[str, str]:
    """Make the child find what its parent has found, and print in UTF-8 and at once."""
    environment = dict(os.environ)
    root = str(Path(__file__).resolve().parents[2])
    # Ahead of the standard library is no place for all of site-packages.
    if root not in (sysconfig.get_path("purelib"), sysconfig.get_path("platlib")):
        paths = [path for path in environment.get("PYTHONPATH", "").split(os.pathsep) if path]
        environment["PYTHONPATH"] = os.pathsep.join([*paths, root])
    environment["PYTHONIOENCODING"] = "utf-8:backslashreplace"
    environment["PYTHONUNBUFFERED"] = "1"
    return environment


def _read(number: int, lines: _Lines, *, until_empty: bool = False) -> bool:
    """Read what is there; False at the end, or where `until_empty` and nothing is left."""
    try:
        data = os.read(number, _READ_BYTES)
    except BlockingIOError:
        return not until_empty
    lines.add(data)
    return bool(data)


def _write(number: int, data: bytes) -> bytes:
    """Write what fits; return the rest."""
    try:
        return data[os.write(number, data) :]
    except BlockingIOError:
        return data
    except BrokenPipeError:
        return b""  # the child has gone, as the next look at it will show


def _kill(process: subprocess.Popen[bytes]) -> None:
    """Kill the child if it lives, and whatever it has started."""
    try:
        os.killpg(process.pid, signal.SIGKILL)
    except ProcessLookupError:
        if process.poll() is None:
            process.kill()
