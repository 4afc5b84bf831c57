"""Settings that only ptychodus needs, besides the configurations of the library."""

from typing import Literal

from pydantic import NonNegativeFloat, NonNegativeInt, PositiveFloat, PositiveInt

from ptychostream.config.fields import AnyPath, configuration


@configuration
class BackendOptions:
    """Which implementation works."""

    backend: Literal["pytorch", "tensorflow"] = "pytorch"
    """What trains and reconstructs from the next run on: pytorch is our own, tensorflow an
    installed ptycho.
    """


@configuration
class SolverSettings:
    """How the solver works."""

    passes: PositiveInt = 20
    """How often each pattern is visited. More passes find more, and take longer."""
    minutes: PositiveFloat | None = None
    """Time for all passes, instead of their number."""
    start: Literal["flat", "product"] = "flat"
    """What the solver starts from: flat is an object of constant transmission, product is the
    product's own object, such as an earlier result.
    """
    probe_from: Literal["auto", "product", "patterns"] = "auto"
    """The probe that the solver begins with: product is the product's; patterns makes one out of
    the patterns; auto is the product's, and where that does not explain the patterns, one made out
    of them, if the probe is solved for.
    """
    refine_probe: bool = True
    """Whether the probe is solved for, too: probes that an application begins with are guesses."""
    probe_modes: PositiveInt | None = None
    """Incoherent probe modes; missing ones are added. Without a number, as many as the product
    has.
    """
    correct_positions: bool = False
    """Whether the scan positions are solved for, too."""
    fit_scan_geometry: bool = False
    """Whether a scale, rotation and shear of all positions together is found before each
    position is moved by itself; needs the correction of positions.
    """
    smoothness: NonNegativeFloat | None = None
    """Strength of the smoothness that is asked of the object; without a number the data decide,
    0 is none.
    """
    checks_fit: bool = True
    """Whether a part of the scan is reconstructed a second time without some of its patterns: a
    result that does not predict them has a warning.
    """
    live_interval: NonNegativeFloat = 2.0
    """Seconds between two pictures while the solver works, at least."""
    seed: NonNegativeInt = 0
    """Decides which patterns share an update."""


@configuration
class ReconstructOptions:
    """What happens to the network's patches."""

    refine_passes: NonNegativeInt = 2
    """Passes over the patterns that refine the stitched object; 0 keeps the network's own."""
    align_phases: bool = True
    """Whether the global phase of each patch is found from its neighbours before stitching."""


@configuration
class StoreOptions:
    """Patterns in a store instead of those that ptychodus has loaded."""

    store_path: AnyPath | None = None
    """Group store (a .zarr folder) whose patterns, positions and probe take the place of the
    loaded ones; training uses it where its folder holds no training data.
    """
    experiment: NonNegativeInt = 0
    """Which experiment of the store is reconstructed."""
