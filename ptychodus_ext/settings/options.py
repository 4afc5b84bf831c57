"""What only this application needs to know, besides the configurations of the library."""

from typing import Literal

from pydantic import NonNegativeInt

from ptychostream.config.fields import AnyPath, configuration


@configuration
class BackendOptions:
    """Which implementation works."""

    backend: Literal["pytorch", "tensorflow"] = "pytorch"
    """What trains and reconstructs from the next run on: pytorch is our own, tensorflow an
    installed ptycho.
    """


@configuration
class ReconstructOptions:
    """What happens to the network's patches."""

    refine_passes: NonNegativeInt = 2
    """Passes over the patterns that refine the stitched object; 0 keeps the network's own."""
    align_phases: bool = True
    """Whether the global phase of each patch is found from its neighbours before stitching."""


@configuration
class StoreOptions:
    """Patterns that do not pass through ptychodus."""

    store_path: AnyPath | None = None
    """Group store (a .zarr folder) whose patterns, positions and probe take the place of the
    loaded ones; training uses it where its folder holds no training data.
    """
    experiment: NonNegativeInt = 0
    """Which experiment of the store is reconstructed."""
