"""Run a task in a child process, until it ends or a stop is requested."""

import logging
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from ptychodus_ext.application import Application
from ptychostream.children import ChildGroup, Job, Log, Message, Output, Progress

logger = logging.getLogger("ptychostream.ptychodus")

#: After Stop, a child finishes its batch, then stitches and saves what there is.
_STOP_GRACE_S = 20.0


def run_child(
    task: str, arguments: Mapping[str, Any], application: Application
) -> Iterator[Message]:
    """Yield a child's messages, and stop it once the user or the application asks."""
    jobs = [Job(task, arguments, log=logger)]
    has_begun, deadline = False, float("inf")
    # Leaving the context ends the child, which has half a second to end by itself.
    with ChildGroup(jobs) as children:
        for _, message in children:
            has_begun = has_begun or isinstance(message, Progress | Output)
            if isinstance(message, Log):
                application.show_log()
            if application.should_stop():
                if application.is_closing or not has_begun or time.monotonic() > deadline:
                    # The caller has left the loop, or there is no result.
                    return
                if deadline == float("inf"):
                    deadline = time.monotonic() + _STOP_GRACE_S
                    logger.info("stopping: what is done by now will be shown")
                    application.show_log()
                    children.ask_to_stop()
            yield message


@contextmanager
def errors_in_log() -> Iterator[None]:
    """Log errors where the window shows them: ptychodus itself shows them in the terminal."""
    try:
        yield
    except Exception as error:  # raised again: only the log is added
        logger.error("%s", error)
        raise
