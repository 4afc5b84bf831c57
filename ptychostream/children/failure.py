"""The error that a child's end becomes in its parent."""

import signal

from ptychostream.errors import PtychoStreamError


class ChildError(PtychoStreamError, RuntimeError):
    """The child ended without finishing its task.

    Parameters
    ----------
    message : str
        What happened, and what to do where that is known.
    exit_code : int, optional
        Of the process; negative for the signal that ended it, None where it never started.
    traceback : str
        Of the child's exception, where there was one.
    """

    def __init__(self, message: str, *, exit_code: int | None = None, traceback: str = "") -> None:
        super().__init__(message)
        self.exit_code = exit_code
        self.traceback = traceback


def describe_exit(task: str, exit_code: int, last_words: str) -> str:
    """Say how a child ended that could not say it itself.

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
