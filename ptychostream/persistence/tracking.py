"""Log a model's archive to MLflow, if it is installed; a failure does not end the run."""

import logging
import os
from collections.abc import Iterator
from contextlib import contextmanager
from importlib import import_module
from pathlib import Path

logger = logging.getLogger(__name__)

#: Folder of the archive among a run's artifacts.
_FOLDER = "model"

#: Time-outs of seconds, not minutes, for a tracking server that does not answer.
_TIMEOUTS = {"MLFLOW_HTTP_REQUEST_MAX_RETRIES": "0", "MLFLOW_HTTP_REQUEST_TIMEOUT": "5"}


@contextmanager
def short_timeouts() -> Iterator[None]:
    """Shorten MLflow's time-outs, unless they are set in the environment."""
    ours = {name: value for name, value in _TIMEOUTS.items() if name not in os.environ}
    os.environ.update(ours)
    try:
        yield
    finally:
        for name in ours:
            os.environ.pop(name, None)


def log_archive(path: Path) -> bool:
    """Log an archive as an artifact of the active run, or of one of its own."""
    try:
        tracker = import_module("mlflow")
    except ImportError:
        logger.warning(
            "MLflow is not installed, so '%s' is only on disk; pip install 'ptychostream[mlflow]'",
            path,
        )
        return False
    # Imported late, since it imports Lightning.

    try:
        with short_timeouts():
            if tracker.active_run() is not None:
                tracker.log_artifact(str(path), artifact_path=_FOLDER)
            else:
                with tracker.start_run(run_name=path.resolve().parent.name):
                    tracker.log_artifact(str(path), artifact_path=_FOLDER)
    # The client may raise any error if the server cannot be reached.
    except Exception as error:
        logger.warning("MLflow did not take '%s', which is on disk: %s", path, error)
        return False
    return True
