"""The library PtychoStream: its settings and its reconstructors."""

import logging
from collections.abc import Iterator
from typing import Any

from ptychodus.api.reconstruct import Reconstructor, ReconstructorLibrary
from ptychodus.api.settings import SettingsRegistry
from typing_extensions import override

from ptychodus_ext.application import Application
from ptychodus_ext.choice import guard_choice
from ptychodus_ext.network import NetworkReconstructor
from ptychodus_ext.settings import StreamSettings
from ptychodus_ext.solver import SolverReconstructor
from ptychodus_ext.words import InWords


class PtychoStreamLibrary(ReconstructorLibrary):
    """Reconstructors of ptychostream.

    `registry`: of ptychodus; the library's settings are saved and loaded with the application's.
    """

    def __init__(self, registry: SettingsRegistry) -> None:
        # The window shows the records of this logger and those below.
        super().__init__("ptychostream")
        shown = logging.getLogger("ptychostream.ptychodus")
        if not any(isinstance(each, InWords) for each in shown.filters):
            shown.addFilter(InWords())
        self.settings = StreamSettings(registry)
        self.application = Application()
        self._reconstructors: list[Reconstructor] = [
            SolverReconstructor(self.settings, self.application),
            NetworkReconstructor("PINN", "pinn", self.settings, self.application),
            NetworkReconstructor("Supervised", "supervised", self.settings, self.application),
        ]

    @property
    @override
    def name(self) -> str:
        return "PtychoStream"

    @override
    def __iter__(self) -> Iterator[Reconstructor]:
        yield from self._reconstructors

    def find(self, name: str) -> Reconstructor:
        """Find a reconstructor by its name, in any case of letters."""
        return next(r for r in self._reconstructors if r.name.casefold() == name.casefold())

    def connect(self, processing: Any, tasks: Any) -> None:
        """Connect to the application, after its other parts are made."""
        self.application.connect(processing, tasks, self._reconstructors)
        first = f"{self.name}_{self._reconstructors[0].name}".casefold()
        guard_choice(processing.algorithm_parameter, processing.processing_api, first)
