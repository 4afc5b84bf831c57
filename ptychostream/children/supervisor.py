"""The thread that owns a child process: starts it, listens, sees it end, kills it."""

import logging
import os
import selectors
import signal
import subprocess
import sys
import sysconfig
import threading
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from ptychostream.children.failure import ChildError, describe_exit
from ptychostream.children.lines import Lines
from ptychostream.children.messages import Done, Failed, Log, Message, decode, encode_json

#: How often the child is looked at while it is silent.
_TICK_S = 0.05
#: How long a child may take to end after its last message.
_FAREWELL_S = 5.0
#: Lines of stderr that stand in the error of a child that could not speak for itself.
_LAST_WORDS = 20
_READ_BYTES = 1 << 16


@dataclass(frozen=True)
class End:
    """The child is gone.

    Attributes
    ----------
    error : ChildError, optional
        None where it finished or was stopped.
    """

    error: ChildError | None


class Supervisor:
    """Owns a child process, from its start to its end.

    Linux kills a child when the *thread* that started it ends, so one thread does both: start
    the child, and stay until it is gone.

    Parameters
    ----------
    receive : callable
        Takes each message and at last an `End`; called in this thread.
    grace_s : float
        Time between asking the child to stop and killing it.
    """

    def __init__(
        self,
        task: str,
        arguments: bytes,
        receive: Callable[[Message | End], None],
        grace_s: float,
        log: logging.Logger,
    ) -> None:
        self._task, self._arguments, self._receive = task, arguments, receive
        self._grace_s, self._log = grace_s, log
        self._thread = threading.Thread(target=self._run, name=f"child {task}", daemon=True)
        self._has_begun, self._stopping = threading.Event(), threading.Event()
        self._start_error: OSError | None = None
        self._last_words: deque[str] = deque(maxlen=_LAST_WORDS)
        self._outcome: Done | Failed | None = None

    def start_child(self) -> None:
        """Start the child, and return once its process exists.

        Raises
        ------
        ChildError
            If it can't be started.
        """
        self._thread.start()
        self._has_begun.wait()
        if self._start_error is not None:
            raise ChildError(
                f"could not start a process for {self._task}: {self._start_error}"
            ) from self._start_error

    def stop_child(self) -> None:
        """Ask the child to stop, and return once it is gone."""
        self._stopping.set()
        # A process that the system itself can't end must not hang its parent too.
        if self._thread.ident is not None:
            self._thread.join(self._grace_s + 5)

    def _run(self) -> None:
        commands_out, commands_in = os.pipe()
        messages_out, messages_in = os.pipe()
        try:
            process = subprocess.Popen(
                [
                    sys.executable,
                    "-P",  # the folder that ptychodus was started in is no place for modules
                    "-m",
                    "ptychodus_ext.worker",
                    *(str(number) for number in (commands_out, messages_in, os.getpid())),
                ],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                pass_fds=(commands_out, messages_in),
                env=_environment(),
                # Its own group, so that workers of its own are killed with it, and Ctrl-C in
                # a terminal reaches the parent alone, which then stops the child.
                start_new_session=True,
            )
        except OSError as error:
            self._start_error = error
            for number in (commands_in, messages_out):
                os.close(number)
            return
        finally:
            for number in (commands_out, messages_in):
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
            # Whoever waits for messages must hear of it, or waits for ever.
            failure = ChildError(f"listening to {self._task} failed: {error}")
            failure.__cause__ = error
            self._receive(End(failure))
        finally:
            os.close(commands_in)
            os.close(messages_out)

    def _serve(self, process: subprocess.Popen[bytes], commands: int, messages: int) -> int:
        assert process.stdout is not None
        assert process.stderr is not None
        header = {
            "task": self._task,
            "sys_path": [entry for entry in sys.path if entry],
            "log_level": self._log.getEffectiveLevel(),
        }
        pending = encode_json(header) + self._arguments
        streams = {
            messages: Lines(self._hear, None),
            process.stdout.fileno(): Lines(self._hear_stdout, b"\n\r"),
            process.stderr.fileno(): Lines(self._hear_stderr, b"\n\r"),
        }
        for number in (commands, *streams):
            os.set_blocking(number, False)
        asked, deadline = False, None
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
                if self._stopping.is_set() and not asked:
                    asked = True
                    deadline = time.monotonic() + self._grace_s
                    if not pending:
                        _write(commands, b"stop\n")
                elif deadline is None and self._outcome is not None:
                    deadline = time.monotonic() + _FAREWELL_S
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
        if isinstance(message, Failed):
            self._outcome = message
            return
        if isinstance(message, Done):
            self._outcome = message
        elif isinstance(message, Log):
            self._log.log(message.level, "%s", message.text)
        self._receive(message)

    def _hear_stdout(self, line: bytes) -> None:
        self._print(line)

    def _hear_stderr(self, line: bytes) -> None:
        self._last_words.append(self._print(line))

    def _print(self, line: bytes) -> str:
        text = line.decode("utf-8", "backslashreplace").rstrip()
        if text:
            self._log.info("%s", text)
        return text

    def _error(self, exit_code: int) -> ChildError | None:
        if isinstance(self._outcome, Done) or self._stopping.is_set():
            return None
        if isinstance(self._outcome, Failed):
            text = "\n".join(filter(None, (self._outcome.summary, self._outcome.traceback)))
            return ChildError(text, exit_code=exit_code, traceback=self._outcome.traceback)
        words = "\n".join(filter(None, self._last_words))
        return ChildError(describe_exit(self._task, exit_code, words), exit_code=exit_code)


def _environment() -> dict[str, str]:
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


def _read(number: int, lines: Lines, *, until_empty: bool = False) -> bool:
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
    if process.poll() is None:
        try:
            os.killpg(process.pid, signal.SIGKILL)
        except ProcessLookupError:
            process.kill()
