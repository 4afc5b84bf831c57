"""Reconstructors that learn: train, reconstruct, load, save and export, as ptychodus calls them."""

import logging
from collections.abc import Iterator, Sequence
from pathlib import Path

from ptychodus.api.observer import Observable, Observer
from ptychodus.api.product import LossValue
from ptychodus.api.reconstruct import (
    ReconstructInput,
    ReconstructOutput,
    TrainableReconstructor,
    TrainOutput,
)
from typing_extensions import override

from ptychodus_ext.application import Application
from ptychodus_ext.measured import GOAL, Measured, StoppedError, find_measured, write_store
from ptychodus_ext.network_files import TrainingFiles, check_model, find_model, find_training_files
from ptychodus_ext.results import percent, reconstruct_in_child, warn_of_no_result
from ptychodus_ext.runs import errors_in_log, run_child
from ptychodus_ext.scratch import is_scratch, scratch_folder
from ptychodus_ext.settings import StreamSettings
from ptychodus_ext.tasks.archive import publish
from ptychostream.children import Done, Progress
from ptychostream.config import to_mapping
from ptychostream.errors import MissingFileError

logger = logging.getLogger("ptychostream.ptychodus")

_EXTENSION = ".zip"
_NO_MODEL = "stopped before there was a model: the one from before is kept"


class NetworkReconstructor(TrainableReconstructor, Observer):
    """One kind of network in ptychodus.

    `name`: as it stands after the `_` in `Algorithm = PtychoStream_PINN`.
    `settings`: read when a run begins.
    """

    def __init__(
        self, name: str, model_type: str, settings: StreamSettings, application: Application
    ) -> None:
        super().__init__()
        self._name, self._model_type = name, model_type
        self._settings, self._application = settings, application
        self._loaded: Path | None = None
        settings.inference["model_path"].add_observer(self)

    @property
    @override
    def name(self) -> str:
        return self._name

    @override
    def get_progress_goal(self) -> int:
        return GOAL

    @override
    def reconstruct(self, parameters: ReconstructInput) -> Iterator[ReconstructOutput]:
        with errors_in_log(), scratch_folder() as folder:
            model = self._find_model()
            check_model(model, self._settings.backend)
            try:
                measured = find_measured(parameters, self._settings, folder, self._application)
            except StoppedError:
                warn_of_no_result(parameters.product)
                return
            yield from self._reconstruct(measured, model, folder)

    def _reconstruct(
        self, measured: Measured, model: Path, folder: Path
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
            "options": {
                "passes": options["refine_passes"],
                "align_phases": options["align_phases"],
                "live_interval": settings.solver.values()["live_interval"],
            },
            "debug": options["debug"],
            "folder": folder,
        }
        task = f"ptychodus_ext.tasks.{backend}_task:reconstruct"
        yield from reconstruct_in_child(
            task, arguments, measured, self._application, name=self.name
        )

    @override
    def train(self, input_path: Path, output_path: Path) -> Iterator[TrainOutput]:
        loaded = self._application.take_training_inputs()
        with errors_in_log(), scratch_folder() as folder:
            try:
                files = self._find_data(input_path, loaded, folder)
            except StoppedError:
                logger.warning(_NO_MODEL)
                return
            output_path.mkdir(parents=True, exist_ok=True)
            yield from self._train(files, output_path / f"model{_EXTENSION}", folder)

    def _find_data(
        self, folder: Path, loaded: Sequence[ReconstructInput], scratch: Path
    ) -> TrainingFiles:
        """Choose files in a folder, then the store that is set, then what is loaded."""
        store = self._settings.store_path
        try:
            return find_training_files(folder, store)
        except MissingFileError:
            if not loaded:
                raise
        stored = write_store(loaded, scratch / "loaded.zarr", self._application)
        return TrainingFiles([Path(stored.path)])

    def _train(self, files: TrainingFiles, target: Path, folder: Path) -> Iterator[TrainOutput]:
        settings, backend = self._settings, self._settings.backend
        # The child process finds the edge of the patterns.
        config = settings.training_config(self._model_type, 64, folder / "run")
        logger.info(
            "%s trains on %s with backend %s; the model will be '%s'",
            self._name,
            files,
            backend,
            target,
        )
        arguments = {
            "train": files.train,
            "test": files.test,
            "config": to_mapping(config),
            "execution": to_mapping(settings.execution(settings.training)),
            "folder": folder,
            "target": target.resolve(),
        }
        losses: dict[str, list[LossValue]] = {"misfit": [], "train_loss": [], "val_loss": []}
        is_trained = False
        task = f"ptychodus_ext.tasks.{backend}_task:train"
        for message in run_child(task, arguments, self._application):
            if isinstance(message, Progress):
                self._application.show_progress(percent(message), GOAL)
                if message.values:
                    yield self._take_losses(losses, message)
            elif isinstance(message, Done):
                is_trained = True
                self._use(target)
                logger.info("the model '%s' is trained and used from now on", target)
        if not is_trained:
            logger.warning(_NO_MODEL)

    def _take_losses(self, losses: dict[str, list[LossValue]], message: Progress) -> TrainOutput:
        """Add an epoch's losses, and draw them."""
        epoch = message.values["epoch"]
        for name, values in losses.items():
            if name in message.values:
                values.append(LossValue(epoch, message.values[name]))
        curves = {n: [(loss.epoch, loss.value) for loss in values] for n, values in losses.items()}
        # The likelihood has no meaning of its own, and no sign; R is what the solver shows, too.
        if losses["misfit"]:
            shown, quantity = {"R": curves["misfit"]}, "R"
        else:
            shown = {"training": curves["train_loss"], "validation": curves["val_loss"]}
            quantity = "Loss"
        self._application.show_curves(f"Training {self._name}", shown, quantity=quantity)
        training = losses["misfit"] or losses["train_loss"]
        return TrainOutput(list(training), list(losses["val_loss"]), progress=percent(message))

    @property
    def model(self) -> Path | None:
        """The model that the next reconstruction uses: the last that was trained, loaded or set."""
        return self._loaded or find_model(self._settings)

    @property
    def model_in_words(self) -> str:
        """What the window says of the model."""
        if self.model is None:
            return "none yet: press Train"
        return "trained in this window, not saved" if is_scratch(self.model) else str(self.model)

    def _find_model(self) -> Path:
        if self.model is None:
            raise MissingFileError(
                "no model is loaded; press Train, load one with Load Model…, or set Model"
                if self._application.has_window
                else "no model is loaded; train one, put model.zip into the input folder, or set "
                "[PtychoStreamInference] ModelPath"
            )
        return self.model

    def _use(self, model: Path) -> None:
        self._loaded = model
        self._application.show_model()

    @override
    def _update(self, observable: Observable) -> None:
        # The path was set after the model was loaded.
        self._loaded = None
        self._application.show_model()

    @override
    def is_model_loaded(self) -> bool:
        return self.model is not None

    @override
    def get_model_file_filter(self) -> str:
        return f"PtychoStream models, {self._settings.backend} backend (*.zip)"

    @override
    def load_model_from_file(self, file_path: Path) -> None:
        with errors_in_log():
            check_model(file_path, self._settings.backend)
        self._use(file_path)
        logger.info("the model '%s' is used from now on", file_path)

    @override
    def get_model_file_extension(self) -> str:
        return _EXTENSION

    @override
    def save_model(self, file_path: Path) -> None:
        with errors_in_log():
            publish(self._find_model(), file_path)
        self._use(file_path)
        logger.info("the model is saved as '%s'", file_path)

    @override
    def get_training_data_file_filter(self) -> str:
        return "Training data: NumPy archive or group store (*.npz *.zarr)"

    @override
    def export_training_data(self, file_path: Path, parameters: ReconstructInput) -> None:
        from ptychodus_ext.files import export_training_data

        with errors_in_log():
            path = export_training_data(file_path, parameters)
        logger.info("training data are saved as '%s'", path)
        self._application.show_log()
