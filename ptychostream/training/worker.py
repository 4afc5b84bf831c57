"""One of the processes that `processes.train_in_processes` starts."""

import dataclasses
import json
import logging
import os
import sys
import threading
import warnings
from pathlib import Path
from typing import Any

from ptychostream.config import PyTorchExecutionConfig, TrainingConfig, from_mapping
from ptychostream.datasets.store import open_group_store
from ptychostream.errors import PtychoStreamError
from ptychostream.persistence import save_bundle
from ptychostream.training.processes import ERROR, EVENTS, JOB, STOP, is_first_process
from ptychostream.training.progress import EpochReport
from ptychostream.training.train import train


class _Events(logging.Handler):
    """Write log records where the starter reads them."""

    def __init__(self, path: Path) -> None:
        super().__init__()
        self._path = path

    def emit(self, record: logging.LogRecord) -> None:
        """Write a record."""
        self.write(level=record.levelno, name=record.name, message=record.getMessage())

    def report(self, report: EpochReport) -> None:
        """Write an epoch's report."""
        self.write(epoch=dataclasses.asdict(report))

    def write(self, **event: Any) -> None:
        """Write one line at once."""
        with self._path.open("a") as file:
            file.write(json.dumps(event) + "\n")


def run(folder: Path) -> int:
    """Train this process's share of a job."""
    job = json.loads((folder / JOB).read_text())
    first = is_first_process()
    events = _Events(folder / EVENTS)
    if first:
        log = logging.getLogger("ptychostream")
        log.setLevel(job["level"])
        log.addHandler(events)
    try:
        validation = job["validation"]
        bundle = train(
            from_mapping(TrainingConfig, job["config"]),
            open_group_store(job["store"]),
            validation=None if validation is None else open_group_store(validation),
            execution=from_mapping(PyTorchExecutionConfig, job["execution"]),
            on_epoch=events.report,
            should_stop=(folder / STOP).exists,
            resume_from=job["resume_from"],
        )
    except PtychoStreamError as error:
        text = json.dumps({"kind": type(error).__name__, "message": str(error)})
        partial = folder / f"{ERROR}.{os.getpid()}"
        partial.write_text(text)
        partial.replace(folder / ERROR)
        return 1
    except KeyboardInterrupt:
        return 130
    if first:
        save_bundle(bundle, folder)
    return 0


def _end_with_starter() -> None:
    sys.stdin.buffer.read()
    os._exit(1)


if __name__ == "__main__":
    warnings.simplefilter("ignore")
    threading.Thread(target=_end_with_starter, daemon=True).start()
    # Without teardown of the process group: a rank that has failed must not wait for others.
    code = run(Path(sys.argv[1]))
    sys.stderr.flush()
    os._exit(code)
