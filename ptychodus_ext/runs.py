"""Run a task in a child process, for as long as the user and the application want it."""

import logging
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from ptychodus_ext.application import Application
from ptychostream.children import ChildRun, Log, Message

logger = logging.getLogger("ptychostream.ptychodus")

#: A child that was asked to stop finishes its batch, then stitches and saves what there is.
_STOP_GRACE_S = 20.0


def run_child(
    task: str, arguments: Mapping[str, Any], application: Application
) -> Iterator[Message]:
    """Yield a child's messages, and stop it once the user or the application asks."""
    with ChildRun(task, arguments, log=logger, stop_grace_s=_STOP_GRACE_S) as child:
        is_stopping = False
        for message in child:
            if isinstance(message, Log):
                application.show_log()
            if not is_stopping and application.should_stop():
                is_stopping = True
                if application.is_closing:
                    # Nobody is there to look at a result.
                    return
                logger.info("stopping: what is done by now will be shown")
                application.show_log()
                # In a thread, so that what the child still hands over is used at once.
                threading.Thread(target=child.stop, daemon=True).start()
            yield message


@contextmanager
def errors_in_log() -> Iterator[None]:
    """Log errors where the window shows them: ptychodus itself shows them in the terminal."""
    try:
        yield
    except Exception as error:
        logger.error("%s", error)
        raise
