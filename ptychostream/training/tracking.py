"""Write losses and pictures of a run to a tracker, whose failure never ends the run."""

import importlib.util
import logging
import os
from argparse import Namespace
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from lightning.pytorch.loggers import CSVLogger, Logger
from lightning.pytorch.utilities import rank_zero_only
from numpy.typing import NDArray
from typing_extensions import override

from ptychostream.errors import ConfigurationError
from ptychostream.persistence.tracking import short_timeouts

logger = logging.getLogger(__name__)


#: Name of the experiment that runs are listed under.
_EXPERIMENT = "ptychostream"


class Tracker(Logger):
    """Call one of Lightning's loggers until it fails for the first time.

    `make`: returns the logger; called before the first write.
    `folder`: where the logger writes, if it writes files.
    """

    def __init__(self, make: Callable[[], Any], folder: Path) -> None:
        super().__init__()
        self._make, self._folder = make, folder
        self._inner: Any = None
        self._failed = False

    @property
    @override
    def name(self) -> str:
        return _EXPERIMENT

    @property
    @override
    def version(self) -> str:
        return ""

    @property
    @override
    def save_dir(self) -> str:
        return str(self._folder)

    @rank_zero_only
    @override
    def log_metrics(self, metrics: Mapping[str, float], step: int | None = None) -> None:
        self._try(lambda inner: inner.log_metrics(dict(metrics), step))

    @rank_zero_only
    @override
    def log_hyperparams(
        self, params: dict[str, Any] | Namespace, *args: Any, **kwargs: Any
    ) -> None:
        self._try(lambda inner: inner.log_hyperparams(params))

    @rank_zero_only
    def log_image(self, name: str, picture: NDArray[np.uint8], epoch: int) -> None:
        self._try(lambda inner: _write_image(inner, self._folder, name, picture, epoch))

    @rank_zero_only
    @override
    def save(self) -> None:
        if self._inner is not None:
            self._try(lambda inner: inner.save())

    @rank_zero_only
    @override
    def finalize(self, status: str) -> None:
        if self._inner is not None:
            self._try(lambda inner: inner.finalize(status))

    def _try(self, write: Callable[[Any], object]) -> None:
        if self._failed:
            return
        try:
            with short_timeouts():
                if self._inner is None:
                    self._inner = self._make()
                write(self._inner)
        except Exception as error:  # a tracker may raise any error, and the run must continue
            self._failed = True
            reason = str(error).strip().split("\n")[0][:300]
            logger.warning("the tracker failed and is left out from here on: %s", reason)


def make_tracker(kind: str | None, folder: Path, *, resumed: bool) -> Tracker | bool:
    """Return the logger that a configuration names.

    `resumed`: whether the folder holds logs of the same run, which are kept.
    """
    if kind is None:
        return False
    version = _free_version(folder / "log") if resumed else ""
    if kind == "csv":
        return Tracker(
            lambda: CSVLogger(folder, name="log", version=version), folder / "log" / version
        )
    from lightning.pytorch import loggers

    if importlib.util.find_spec(kind) is None:
        raise ConfigurationError(
            f"logger_backend={kind!r} needs an extra: pip install 'ptychostream[{kind}]'"
        )
    if kind == "tensorboard":
        return Tracker(
            lambda: loggers.TensorBoardLogger(folder, name="log", version=version),
            folder / "log" / version,
        )
    where = os.environ.get("MLFLOW_TRACKING_URI") or f"sqlite:///{folder.resolve()}/mlflow.db"
    return Tracker(
        lambda: loggers.MLFlowLogger(
            experiment_name=_EXPERIMENT,
            tracking_uri=where,
            artifact_location=None if "MLFLOW_TRACKING_URI" in os.environ else str(folder / "log"),
        ),
        folder / "log",
    )


def _free_version(folder: Path) -> str:
    number = 1
    while (folder / f"resumed-{number}").exists():
        number += 1
    return f"resumed-{number}"


def _write_image(
    inner: Any, folder: Path, name: str, picture: NDArray[np.uint8], epoch: int
) -> None:
    kind = type(inner).__name__
    if kind == "TensorBoardLogger":
        inner.experiment.add_image(name, picture, epoch, dataformats="HW")
    elif kind == "MLFlowLogger":
        inner.experiment.log_image(inner.run_id, picture, f"{name}-{epoch:04d}.png")
    else:
        from skimage.io import imsave

        folder.mkdir(parents=True, exist_ok=True)
        imsave(folder / f"{name}-{epoch:04d}.png", picture, check_contrast=False)
