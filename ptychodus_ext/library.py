"""The library PtychoStream: its settings and its two reconstructors."""

from collections.abc import Iterator

from ptychodus.api.reconstruct import Reconstructor, ReconstructorLibrary
from ptychodus.api.settings import SettingsRegistry

from ptychodus_ext.application import Application
from ptychodus_ext.reconstructor import StreamReconstructor
from ptychodus_ext.settings import StreamSettings


class PtychoStreamLibrary(ReconstructorLibrary):
    """Networks that are trained on patterns and reconstruct them.

    Parameters
    ----------
    registry : SettingsRegistry
        Of ptychodus; the library's settings are saved and loaded with the application's.
    """

    def __init__(self, registry: SettingsRegistry) -> None:
        # The window shows the records of this logger and those below.
        super().__init__("ptychostream")
        self.settings = StreamSettings(registry)
        self.application = Application()
        self._reconstructors = [
            StreamReconstructor("PINN", "pinn", self.settings, self.application),
            StreamReconstructor("Supervised", "supervised", self.settings, self.application),
        ]

    @property
    def name(self) -> str:
        """As it stands before the `_` in `Algorithm = PtychoStream_PINN`."""
        return "PtychoStream"

    def __iter__(self) -> Iterator[Reconstructor]:
        yield from self._reconstructors
