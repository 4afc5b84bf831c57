"""What a run of the solver is asked for."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ptychostream.errors import ConfigurationError
from ptychostream.solver.steps import Steps

#: Passes of a run, where neither a number nor a time is asked for.
PASSES = 20


@dataclass(frozen=True, kw_only=True)
class SolverOptions:
    """How object, probe and positions are solved for.

    Attributes
    ----------
    passes : int
        How often each pattern is visited. The schedules run from their first to their last
        value over the passes, so that ten passes are not the first half of twenty.
    minutes : float, optional
        Time for all passes: their number is chosen after the first one, and is `passes` at least
        where that is given explicitly and fits.
    probe_modes : int, optional
        Incoherent probe modes wanted; missing ones are added. None keeps those of the scan.
    refine_probe : bool
        Whether the probe is solved for, too.
    correct_positions : bool
        Whether the scan positions are solved for, too.
    fit_scan_geometry : bool
        Whether a scale, rotation and shear of all positions together is found before each
        position is moved by itself; needs `correct_positions`.
    smoothness : float, optional
        Strength of the smoothness prior; None lets the data decide, 0 is no prior.
    batches : (float, float)
        Updates in the first and in the last pass, whatever the size of the scan.
    momentum : (float, float)
        Part of the last update that is repeated, in the first and in the last pass.
    trust : (float, float)
        How much detector pixels that the model does not light yet are held back.
    step : float
        Length of an update, in units of 1 / light.
    phase_waves : float
        Part of the step of the phase's long waves that a pass makes; 0 leaves them to the updates.
    average : float
        Part of the passes, the last ones, over which the object is averaged.
    probe_rest : float
        Relative change of the probe in the last pass above which the run goes on, up to twice its
        passes, unless photon noise alone moves it as much.
    longest_move : float
        Most that a pass may move a position, in pixels.
    seed : int
        Decides which patterns share an update.
    device : str
        Where it is computed: `cpu`, `cuda`, ….
    memory_budget : int
        Bytes for patterns; a larger scan waits in a scratch file.
    canvas_budget : int
        Bytes for the object and what belongs to it; larger ones are kept in files.
    scratch_folder : Path, optional
        For files that go away again; None is the system's folder for temporary files.
    num_threads : int
        Threads that decode patterns; 0 is one per core.
    steps : Steps
        The parts of an update; each can be exchanged.
    """

    passes: int = PASSES
    minutes: float | None = None
    probe_modes: int | None = None
    refine_probe: bool = True
    correct_positions: bool = False
    fit_scan_geometry: bool = False
    smoothness: float | None = None
    batches: tuple[float, float] = (12, 3)
    momentum: tuple[float, float] = (0.7, 0.9)
    trust: tuple[float, float] = (0.2, 0.02)
    step: float = 0.7
    phase_waves: float = 1.0
    average: float = 0.25
    probe_rest: float = 0.01
    longest_move: float = 1.0
    seed: int = 0
    device: str = "cpu"
    memory_budget: int = 2**30
    canvas_budget: int = 2**32
    scratch_folder: Path | None = None
    num_threads: int = 0
    steps: Steps = field(default_factory=Steps)

    def __post_init__(self) -> None:
        """Check the numbers.

        Raises
        ------
        ConfigurationError
            If a number is out of range, or an option has no effect beside the others.
        """
        at_least: tuple[tuple[str, Any, float], ...] = (
            ("passes", self.passes, 1),
            ("probe_modes", 1 if self.probe_modes is None else self.probe_modes, 1),
            ("batches", min(self.batches), 1),
            ("memory_budget", self.memory_budget, 2**20),
        )
        for name, value, least in at_least:
            if not value >= least:
                raise ConfigurationError(f"{name}={value} must be at least {least}")
        if self.minutes is not None and not self.minutes > 0:
            raise ConfigurationError(f"minutes={self.minutes} must be positive")
        if self.smoothness is not None and not self.smoothness >= 0:
            raise ConfigurationError(f"smoothness={self.smoothness} must not be negative")
        if self.fit_scan_geometry and not self.correct_positions:
            raise ConfigurationError(
                "fit_scan_geometry has no effect without correct_positions; ask for both"
            )
