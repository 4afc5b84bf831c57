"""What only this application needs to know, besides the configurations of the library."""

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from ptychostream.config.checks import check_at_least


@dataclass(frozen=True, kw_only=True)
class BackendOptions:
    """Which implementation works.

    Attributes
    ----------
    backend : str
        What trains and reconstructs from the next run on: pytorch is our own, tensorflow an
        installed ptycho.
    """

    backend: Literal["pytorch", "tensorflow"] = "pytorch"


@dataclass(frozen=True, kw_only=True)
class ReconstructOptions:
    """What happens to the network's patches.

    Attributes
    ----------
    refine_passes : int
        Passes over the patterns that refine the stitched object; 0 keeps the network's own.
    align_phases : bool
        Whether the global phase of each patch is found from its neighbours before stitching.
    """

    refine_passes: int = 2
    align_phases: bool = True

    def __post_init__(self) -> None:
        """Refuse values that mean nothing."""
        check_at_least(self, 0, "refine_passes")


@dataclass(frozen=True, kw_only=True)
class StoreOptions:
    """Patterns that do not pass through ptychodus.

    Attributes
    ----------
    store_path : Path, optional
        Group store (a .zarr folder) whose patterns, positions and probe take the place of the
        loaded ones; training uses it where its folder holds no training data.
    experiment : int
        Which experiment of the store is reconstructed.
    """

    store_path: Path | None = None
    experiment: int = 0

    def __post_init__(self) -> None:
        """Refuse values that mean nothing."""
        check_at_least(self, 0, "experiment")
