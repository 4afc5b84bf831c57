"""What ptychodus calls: reconstruct, train, load, save and export, each run in a child process."""

import logging
import tempfile
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from ptychodus.api.product import LossValue
from ptychodus.api.reconstruct import (
    ReconstructInput,
    ReconstructOutput,
    TrainableReconstructor,
    TrainOutput,
)

from ptychodus_ext.application import Application
from ptychodus_ext.convert import product_with
from ptychodus_ext.measured import Measured, StoppedError, find_measured
from ptychodus_ext.models import check_model, find_model
from ptychodus_ext.settings import StreamSettings
from ptychodus_ext.tasks.archive import publish
from ptychodus_ext.training_files import find_training_files
from ptychostream.children import ChildRun, Done, Message, Output, Progress
from ptychostream.config import to_mapping
from ptychostream.errors import MissingFileError

logger = logging.getLogger("ptychostream.ptychodus")

#: Where the progress bar of a reconstruction ends; that of training ends at the epochs.
_GOAL = 100

#: A child that was asked to stop has this long to hand over what it has by then.
_STOP_GRACE_S = 0.6


class StreamReconstructor(TrainableReconstructor):
    """One kind of network in ptychodus.

    Parameters
    ----------
    name : str
        As it stands after the `_` in `Algorithm = PtychoStream_PINN`.
    settings : StreamSettings
        Looked at when a run begins.
    """

    def __init__(
        self, name: str, model_type: str, settings: StreamSettings, application: Application
    ) -> None:
        super().__init__()
        self._name, self._model_type = name, model_type
        self._settings, self._application = settings, application
        self._loaded: Path | None = None
        self._goal = _GOAL

    @property
    def name(self) -> str:
        """As ptychodus lists it."""
        return self._name

    def get_progress_goal(self) -> int:
        """Say where the progress bar of the current run ends."""
        return self._goal

    def reconstruct(self, parameters: ReconstructInput) -> Iterator[ReconstructOutput]:
        """Reconstruct the patterns with the model that was loaded or trained last.

        Raises
        ------
        MissingFileError
            If there is no model.
        ChildError
            If the process that reconstructs fails or dies.
        """
        self._goal = _GOAL
        model = self._model()
        check_model(model, self._settings.backend)
        with tempfile.TemporaryDirectory(prefix="ptychostream-") as folder:
            try:
                measured = find_measured(
                    parameters, self._settings, Path(folder), self._application
                )
            except StoppedError:
                return
            yield from self._reconstruct(measured, model, folder)

    def _reconstruct(
        self, measured: Measured, model: Path, folder: str
    ) -> Iterator[ReconstructOutput]:
        settings, backend = self._settings, self._settings.backend
        logger.info(
            "%s reconstructs %d patterns of store '%s' with backend %s and model '%s'",
            self._name,
            measured.num_patterns,
            measured.store,
            backend,
            model,
        )
        options = settings.inference.values()
        arguments = {
            "model": model.resolve(),
            "store": measured.store,
            "experiment": measured.experiment,
            "grid": measured.grid,
            "execution": to_mapping(settings.execution(settings.inference)),
            "neighbor_count": settings.data.values()["neighbor_count"],
            "refine_passes": options["refine_passes"],
            "align_phases": options["align_phases"],
            "debug": options["debug"],
            "folder": folder,
        }
        for message in self._run(f"ptychodus_ext.tasks.{backend}_task:reconstruct", arguments):
            if isinstance(message, Progress):
                # The end is for the result.
                done = min(_GOAL - 1, _GOAL * message.done // max(message.total, 1))
                self._application.show_progress(done, _GOAL)
            elif isinstance(message, Output):
                with np.load(message.paths["result"]) as arrays:
                    result = product_with(
                        measured.product, arrays["object"], arrays["probe"], arrays["losses"]
                    )
                yield ReconstructOutput(result, progress=_GOAL)

    def train(self, input_path: Path, output_path: Path) -> Iterator[TrainOutput]:
        """Train a network on the data in a folder; it is the loaded model from then on.

        Raises
        ------
        MissingFileError
            If the folder holds no training data and no store is set.
        ChildError
            If the process that trains fails or dies.
        """
        settings, backend = self._settings, self._settings.backend
        files = find_training_files(input_path, settings.store_path)
        output_path.mkdir(parents=True, exist_ok=True)
        target = output_path / f"model{self.get_model_file_extension()}"
        # The edge of the patterns is the child's to find out.
        config = settings.training_config(self._model_type, 64, output_path / "ptychostream")
        execution = settings.execution(settings.training)
        self._goal = config.nepochs
        logger.info(
            "%s trains on %s with backend %s; the model will be '%s'",
            self._name,
            files,
            backend,
            target,
        )
        losses: dict[str, list[LossValue]] = {"train_loss": [], "val_loss": []}
        with tempfile.TemporaryDirectory(prefix="ptychostream-") as folder:
            arguments = {
                "train": files.train,
                "test": files.test,
                "config": to_mapping(config),
                "execution": to_mapping(execution),
                "folder": folder,
                "target": target.resolve(),
            }
            for message in self._run(f"ptychodus_ext.tasks.{backend}_task:train", arguments):
                if isinstance(message, Progress):
                    for name, values in losses.items():
                        if name in message.values:
                            values.append(LossValue(message.done, message.values[name]))
                    yield self._train_output(losses, message.done)
                elif isinstance(message, Done):
                    self._loaded = target
                    self._application.refresh_buttons()
                    logger.info("the model '%s' is trained and loaded", target)

    def _train_output(self, losses: dict[str, list[LossValue]], done: int) -> TrainOutput:
        training, validation = (list(losses[name]) for name in ("train_loss", "val_loss"))
        return TrainOutput(training, validation, progress=done)

    def _run(self, task: str, arguments: dict[str, Any]) -> Iterator[Message]:
        """Pass on a child's messages, and stop it once the user or the application asks."""
        with ChildRun(task, arguments, log=logger, stop_grace_s=_STOP_GRACE_S) as child:
            asked = False
            for message in child:
                if not asked and self._application.should_stop():
                    asked = True
                    logger.info("stopping")
                    # Aside, so that what the child still hands over is used at once.
                    threading.Thread(target=child.stop, daemon=True).start()
                yield message

    def _model(self) -> Path:
        model = self._loaded or find_model(self._settings)
        if model is None:
            raise MissingFileError(
                "no model is loaded; train one, load one, put model.zip into the input folder, or "
                "set [PtychoStreamInference] ModelPath"
            )
        return model

    def is_model_loaded(self) -> bool:
        """Say whether a reconstruction can start."""
        return (self._loaded or find_model(self._settings)) is not None

    def get_model_file_filter(self) -> str:
        """Say what can be loaded, as a file dialog shows it."""
        return f"PtychoStream models, {self._settings.backend} backend (*.zip)"

    def load_model_from_file(self, file_path: Path) -> None:
        """Take a model for the reconstructions that follow.

        Raises
        ------
        MissingFileError
            If there is no such file.
        DataContractError
            If it is no archive, or belongs to another backend than the one that is set.
        """
        check_model(file_path, self._settings.backend)
        self._loaded = file_path

    def get_model_file_extension(self) -> str:
        """Say how a model's file name ends."""
        return ".zip"

    def save_model(self, file_path: Path) -> None:
        """Copy the model.

        Raises
        ------
        MissingFileError
            If there is no model.
        """
        publish(self._model(), file_path)

    def get_training_data_file_filter(self) -> str:
        """Say what training data can be written, as a file dialog shows it."""
        return "Training data: NumPy archive or group store (*.npz *.zarr)"

    def export_training_data(self, file_path: Path, parameters: ReconstructInput) -> None:
        """Write what a network is trained on."""
        from ptychodus_ext.files import export_training_data

        export_training_data(file_path, parameters)
