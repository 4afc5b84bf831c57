"""The error of a child process, and how its end is described."""

import signal

import ptychostream.errors
from ptychostream.children.messages import Failed
from ptychostream.errors import PtychoStreamError


class ChildError(PtychoStreamError, RuntimeError):
    """A child ended without finishing its task.

    `message`: what happened, and what to do where that is known.
    `exit_code`: of the process; negative for the signal that ended it, None where it never started.
    `cause`: the child's exception, where there was one.
    `number`: place of the child among several.
    """

    def __init__(
        self, message: str, *, exit_code: int | None = None, cause: Failed | None = None
    ) -> None:
        super().__init__(message)
        self.exit_code, self.cause, self.number = exit_code, cause, 0

    @property
    def traceback(self) -> str:
        """Of the child's exception; empty where there was none, or it explains itself."""
        return "" if self.cause is None else self.cause.traceback

    @property
    def original(self) -> PtychoStreamError | KeyboardInterrupt | None:
        """The child's exception, where it is an error of ours or an interrupt."""
        if self.cause is None:
            return None
        if self.cause.kind == KeyboardInterrupt.__name__:
            return KeyboardInterrupt()
        kind = getattr(ptychostream.errors, self.cause.kind, None)
        return None if kind is None else kind(self.cause.text)


def describe_exit(task: str, exit_code: int, last_words: str) -> str:
    """Describe the end of a child that sent no message about it.

    Examples
    --------
    >>> describe_exit("reconstruct", 3, "")
    'the process of reconstruct ended with exit code 3 before it had finished'
    """
    if exit_code >= 0:
        text = f"the process of {task} ended with exit code {exit_code} before it had finished"
    else:
        try:
            name = signal.Signals(-exit_code).name
        except ValueError:
            name = f"signal {-exit_code}"
        text = f"the process of {task} was ended by {name}"
        if name == "SIGKILL":
            text += (
                "; perhaps the system ran out of memory: choose a smaller batch or memory budget, "
                "or see the system's log"
            )
    return f"{text}\n{last_words}" if last_words else text
