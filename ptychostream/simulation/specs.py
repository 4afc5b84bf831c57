"""The parts of a simulated scan, each checked when it is made: object, probe, positions, dose."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, fields, is_dataclass
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from ptychostream.errors import ConfigurationError, DataContractError
from ptychostream.simulation.checks import check_positive
from ptychostream.simulation.detector import Detector
from ptychostream.simulation.files import is_file_name, read_object, read_positions, read_probe
from ptychostream.simulation.objects import make_object
from ptychostream.simulation.probes import make_probe
from ptychostream.simulation.probes.shaping import apodise, effective_diameter, incoherent_modes
from ptychostream.simulation.scan_patterns import make_positions

#: A registered name, the name of a file, or an array.
Source: TypeAlias = str | NDArray[Any]

#: Pixels between the outermost patch and the object's edge.
MARGIN = 2


@dataclass(frozen=True, eq=False)
class ObjectSpec:
    """Which object is scanned; the fields are arguments of `simulate_scan`."""

    object: Source
    object_options: dict[str, Any] | None = None
    object_shape: tuple[int, int] | None = None

    def __post_init__(self) -> None:
        """Refuse options that the kind of source does not have."""
        if self.object_shape is not None and not _is_registered(self.object):
            raise ConfigurationError(
                f"object_shape={tuple(self.object_shape)} is for named objects; a given one has "
                "its own shape"
            )
        if self.object_options and not isinstance(self.object, str):
            raise ConfigurationError("object_options are for objects that are named or pictures")

    def make(self, needed: tuple[int, int], rng: np.random.Generator) -> NDArray[np.complex64]:
        """Draw or read the object (H, W), at least as large as `needed` (rows, columns)."""
        if not isinstance(self.object, str):
            obj = np.asarray(self.object, dtype=np.complex64)
        elif is_file_name(self.object):
            obj = read_object(self.object, self.object_options or {})
        else:
            obj = make_object(self.object, self.object_shape or needed, rng, self.object_options)
        if obj.ndim != 2 or (np.array(obj.shape) < needed).any():
            raise ConfigurationError(
                f"the object is {obj.shape} px but the scan needs {needed}; scan fewer "
                "positions, or give a larger object"
            )
        bad = np.argwhere(~np.isfinite(obj))
        if len(bad):
            name = (
                f"the object of '{self.object}'" if isinstance(self.object, str) else "the object"
            )
            row, column = bad[0]
            raise DataContractError(
                f"{name} holds {len(bad)} values that are not finite, the first at row {row}, "
                f"column {column}: {obj[row, column]}; replace them, 1 is vacuum"
            )
        return obj


@dataclass(frozen=True, eq=False)
class ProbeSpec:
    """Which probe illuminates it; the fields are arguments of `simulate_scan`."""

    probe: Source
    N: int
    probe_options: dict[str, Any] | None = None
    apodisation: float = 0.0
    mode_powers: Sequence[float] | None = None

    def __post_init__(self) -> None:
        """Refuse a patch edge that is odd or small, and options of a given probe."""
        if self.N < 8 or self.N % 2:
            raise ConfigurationError(f"N={self.N} must be an even number of at least 8 pixels")
        if self.probe_options and not _is_registered(self.probe):
            raise ConfigurationError("probe_options are for probes that are named")

    def make(self) -> NDArray[np.complex128]:
        """Make the probe (P, N, N), of total power 1: draw or read, apodise, split into modes."""
        if not isinstance(self.probe, str):
            probe = np.asarray(self.probe, np.complex128)
        elif is_file_name(self.probe):
            probe = read_probe(self.probe)
        else:
            probe = make_probe(self.probe, self.N, self.probe_options)
        probe = probe.reshape(-1, *probe.shape[-2:])
        if probe.shape[-2:] != (self.N, self.N):
            raise ConfigurationError(f"the probe is {probe.shape[-2:]} px but N={self.N}")
        probe = apodise(probe, self.apodisation)
        power = np.sum(np.abs(probe) ** 2)
        if not np.isfinite(power) or power == 0:
            raise ConfigurationError(f"the probe's power is {power:g}; it must be above zero")
        probe = probe / np.sqrt(power)
        return probe if self.mode_powers is None else incoherent_modes(probe, self.mode_powers)


@dataclass(frozen=True)
class Layout:
    """Where the patches lie: true and nominal positions, and the object that they need.

    `positions` (M, 2): True positions (x, y) in object pixels, at which the patterns are made.
    `nominal` (M, 2): where the stage was sent; None where that is the same.
    `needed`: rows and columns of the smallest object that holds every patch.
    """

    positions: NDArray[np.float64]
    nominal: NDArray[np.float64] | None
    needed: tuple[int, int]


@dataclass(frozen=True, eq=False)
class ScanSpec:
    """Where the probe goes; the fields are arguments of `simulate_scan`."""

    scan_pattern: Source
    num_positions: int | None = None
    step: float | None = None
    overlap: float | None = None
    drift: tuple[float, float] = (0.0, 0.0)
    position_noise: float = 0.0

    def __post_init__(self) -> None:
        """Refuse numbers out of range, and a step beside an overlap."""
        check_positive(num_positions=self.num_positions, step=self.step)
        if self.overlap is not None and self.step is not None:
            raise ConfigurationError(
                f"step={self.step:g} and overlap={self.overlap:g}: give only one of them"
            )
        if self.overlap is not None and not 0 <= self.overlap < 1:
            raise ConfigurationError(f"overlap={self.overlap:g} must be in [0, 1)")
        if self.position_noise < 0 or not np.isfinite([self.position_noise, *self.drift]).all():
            raise ConfigurationError(
                f"position_noise={self.position_noise} and drift={tuple(self.drift)} must be "
                "finite pixels, and the noise not negative"
            )

    def step_for(self, probe: NDArray[np.complex128]) -> float:
        """Return the distance of neighbours in pixels, which an overlap makes of the probe."""
        if self.overlap is not None:
            return (1 - self.overlap) * effective_diameter(probe)
        return probe.shape[-1] / 16 if self.step is None else self.step

    def place(
        self,
        N: int,
        step: float,
        pattern_rng: np.random.Generator,
        displacement_rng: np.random.Generator,
    ) -> Layout:
        """Choose positions: of a pattern, a file or an array.

        Positions of a file or array are object pixels and stay as they are; those of a pattern
        are moved so that every patch lies inside the object.
        """
        if isinstance(self.scan_pattern, str) and _is_registered(self.scan_pattern):
            number, first = self.num_positions or 2000, N / 2 + MARGIN
            nominal = make_positions(self.scan_pattern, number, step, pattern_rng) + first
            room = MARGIN
        else:
            nominal, first, room = self._given_positions(), -np.inf, 0
        positions = nominal
        if any(self.drift) or self.position_noise:
            along = np.linspace(0, 1, len(nominal))[:, None] * np.asarray(self.drift, np.float64)
            noise = displacement_rng.standard_normal(nominal.shape)
            positions = nominal + (along + self.position_noise * noise)
            inwards = np.maximum(first - positions.min(axis=0), 0)
            nominal, positions = nominal + inwards, positions + inwards
        x, y = positions.min(axis=0)
        if min(x, y) < N / 2:
            raise ConfigurationError(
                f"positions begin at (x={x:g}, y={y:g}), so that patches of N={N} px begin before "
                f"the object's first pixel; add at least {N / 2 - min(x, y):g} px to both "
                "coordinates"
            )
        rows, columns = np.ceil(positions.max(axis=0)[::-1]).astype(int) + N // 2
        return Layout(
            positions,
            None if positions is nominal else nominal,
            (int(rows) + room, int(columns) + room),
        )

    def _given_positions(self) -> NDArray[np.float64]:
        if isinstance(self.scan_pattern, str):
            positions, origin = read_positions(Path(self.scan_pattern)), f"'{self.scan_pattern}'"
        else:
            positions, origin = np.array(self.scan_pattern, dtype=np.float64), "the array"
        if positions.ndim != 2 or positions.shape[1] != 2 or not np.isfinite(positions).all():
            raise ConfigurationError(
                f"scan_pattern is {positions.shape}, expected (M, 2) finite numbers"
            )
        if self.num_positions is not None and self.num_positions > len(positions):
            raise ConfigurationError(
                f"num_positions={self.num_positions} but {origin} holds {len(positions)}; ask for "
                "fewer"
            )
        return positions[: self.num_positions]


@dataclass(frozen=True)
class Dose:
    """How many photons are counted, and how; the fields are arguments of `simulate_scan`."""

    nphotons: float
    noise: bool
    detector: Detector

    def __post_init__(self) -> None:
        """Refuse doses that are not positive, or more than the counter holds."""
        check_positive(nphotons=self.nphotons)
        self.detector.check_dose(self.nphotons)


def as_source(value: str | Path | NDArray[Any]) -> Source:
    """Turn a path into the name of a file, which needs an ending."""
    if not isinstance(value, Path):
        return value
    if not is_file_name(str(value)):
        raise ConfigurationError(f"the file '{value}' must have an ending that says its format")
    return str(value)


def describe(*specs: Any) -> dict[str, Any]:
    """Return all options as plain Python values, for the provenance; a given array by that word."""
    options = {item.name: getattr(spec, item.name) for spec in specs for item in fields(spec)}
    for name in ("object", "probe", "scan_pattern"):
        if not isinstance(options[name], str):
            options[name] = "array"
    return {name: plain(value) for name, value in options.items()}


def plain(value: Any) -> Any:
    """Turn NumPy's values, mappings and dataclasses into what JSON can express."""
    if is_dataclass(value) and not isinstance(value, type):
        value = asdict(value)
    if isinstance(value, Mapping):
        return {plain(key): plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [plain(item) for item in value]
    return value.tolist() if isinstance(value, np.ndarray | np.generic) else value


def _is_registered(source: Source) -> bool:
    return isinstance(source, str) and not is_file_name(source)
