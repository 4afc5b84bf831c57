"""The reconstructor without training: object, probe and positions from the loaded patterns."""

import logging
from collections.abc import Iterator

from ptychodus.api.reconstruct import ReconstructInput, Reconstructor, ReconstructOutput
from typing_extensions import override

from ptychodus_ext.application import Application
from ptychodus_ext.measured import GOAL, StoppedError, find_measured
from ptychodus_ext.results import reconstruct_in_child, warn_of_no_result
from ptychodus_ext.runs import errors_in_log
from ptychodus_ext.scratch import scratch_folder
from ptychodus_ext.settings import StreamSettings
from ptychostream.config import to_mapping

logger = logging.getLogger("ptychostream.ptychodus")


class SolverReconstructor(Reconstructor):
    """The solver of ptychostream in ptychodus.

    `settings`: read when a run begins.
    """

    def __init__(self, settings: StreamSettings, application: Application) -> None:
        super().__init__()
        self._settings, self._application = settings, application

    @property
    @override
    def name(self) -> str:
        return "Solver"

    @override
    def get_progress_goal(self) -> int:
        return GOAL

    @override
    def reconstruct(self, parameters: ReconstructInput) -> Iterator[ReconstructOutput]:
        settings = self._settings
        with errors_in_log(), scratch_folder() as folder:
            try:
                measured = find_measured(parameters, settings, folder, self._application)
            except StoppedError:
                warn_of_no_result(parameters.product)
                return
            options = settings.solver.values()
            arguments = {
                "model": None,
                "store": measured.store,
                "experiment": measured.experiment,
                "grid": measured.grid,
                "execution": to_mapping(settings.execution(settings.inference)),
                "options": options,
                "debug": settings.inference.values()["debug"],
                "folder": folder,
            }
            logger.info(
                "%s reconstructs %d patterns of store '%s'",
                self.name,
                measured.num_patterns,
                measured.store,
            )
            task = "ptychodus_ext.tasks.pytorch_task:reconstruct"
            yield from reconstruct_in_child(
                task, arguments, measured, self._application, name=self.name
            )
