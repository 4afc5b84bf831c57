"""Simulate a scan: object, probe and positions in; patterns of a stated dose out."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ptychostream._version import __version__
from ptychostream.errors import ConfigurationError, DataContractError
from ptychostream.scan import Scan, ScanMetadata
from ptychostream.simulation.beam import shape_beam
from ptychostream.simulation.detector import Detector, DetectorPixels
from ptychostream.simulation.files import is_file_name, read_object
from ptychostream.simulation.layout import Placement, place_scan
from ptychostream.simulation.objects import make_object
from ptychostream.simulation.patterns import SimulatedPatterns
from ptychostream.simulation.probes.width import effective_diameter
from ptychostream.simulation.sampling import with_object_pixel
from ptychostream.simulation.seeds import check_seed

_PERFECT = Detector()
_UNKNOWN = ScanMetadata()


def simulate_scan(
    *,
    object: str | Path | NDArray[np.complex64] = "dead_leaves",
    probe: str | Path | NDArray[np.complex64] = "fresnel_zone_plate",
    num_positions: int | None = None,
    N: int = 64,
    scan_pattern: str | Path | NDArray[np.float64] = "jittered_raster",
    step: float | None = None,
    overlap: float | None = None,
    drift: tuple[float, float] = (0.0, 0.0),
    position_noise: float = 0.0,
    object_shape: tuple[int, int] | None = None,
    object_options: dict[str, Any] | None = None,
    probe_options: dict[str, Any] | None = None,
    apodisation: float = 0.0,
    mode_powers: Sequence[float] | None = None,
    nphotons: float = 1e6,
    noise: bool = True,
    detector: Detector = _PERFECT,
    metadata: ScanMetadata = _UNKNOWN,
    seed: int = 0,
    device: str = "cpu",
) -> Scan:
    """Simulate a scan of a known object.

    Nothing is computed but object, probe and dose: patterns are simulated when they are read.

    Parameters
    ----------
    object : str, Path or (H, W) complex64
        Name of an object, name of a file that holds one, or its transmission.
    probe : str, Path or (P, N, N) complex64
        Name of a probe, name of a file that holds one, or the illumination; its power is set by
        `nphotons`.
    num_positions : int, optional
        Positions M; None is 2000, or all of a file's.
    N : int
        Edge of a pattern, in pixels.
    scan_pattern : str, Path or (M, 2) float64
        Name of a scan pattern, name of a file with positions, or positions (x, y) in object
        pixels.
    step : float, optional
        Distance of neighbouring positions, in pixels; None is N/16.
    overlap : float, optional
        Instead of `step`: part of the probe's effective diameter that neighbours share.
    drift : (float, float)
        True minus nominal position (x, y) of the last pattern, in pixels; grows evenly from 0.
    position_noise : float
        Standard deviation of true minus nominal coordinates, in pixels.
    object_shape : (int, int), optional
        Shape of a named object; None is the smallest that holds the scan and a small margin.
    object_options : dict, optional
        Options of a named object, or `absorption` and `phase_shift` of a picture.
    probe_options : dict, optional
        Options of a named probe.
    apodisation : float
        Part of the probe's half edge over which it fades to zero.
    mode_powers : sequence of float, optional
        Shares of orthogonal incoherent modes in the power; None leaves the probe's modes.
    nphotons : float
        Photons per pattern that reach the detector, the mean over the scan of their expectation.
        What the detector adds or loses does not count. More than the largest counter holds are
        refused, unless the detector has a saturation.
    noise : bool
        Whether photons are counted (Poisson), or patterns hold the expected counts.
    detector : Detector
        What the detector adds and loses.
    metadata : ScanMetadata
        Energy, distance and pixel size, for files that hold them; the object's pixel follows
        from the other three.
    seed : int
        Decides object, positions, detector faults and noise; zero or more.
    device : str
        Where waves are computed, as torch names it. The seed gives the same bytes on one device,
        whatever is read together; another device may round differently.

    Returns
    -------
    Scan
        Counts at the true positions, with nominal ones in `positions_start`, the true object as
        object guess and the probe at its true power; `provenance["simulated"]` says how it was
        made, in plain Python values.

    Raises
    ------
    ConfigurationError
        If a name is unknown, a number out of range, or the object too small or opaque for the
        scan.
    MissingFileError
        If there is no file of a name that has an ending.
    DataContractError
        If a file is damaged or holds something else, or the object is not finite.

    Examples
    --------
    >>> scan = simulate_scan(num_positions=9, N=16, nphotons=1e4)
    >>> scan.patterns.shape, scan.measurement_domain
    ((9, 16, 16), 'counts')
    """
    object, probe, scan_pattern = (_as_name(source) for source in (object, probe, scan_pattern))
    _check_numbers(num_positions=num_positions, N=N, nphotons=nphotons, step=step, overlap=overlap)
    check_seed(seed)
    detector.check_dose(nphotons)
    if position_noise < 0 or not np.isfinite([position_noise, *drift]).all():
        raise ConfigurationError(
            f"position_noise={position_noise} and drift={tuple(drift)} must be finite pixels, and "
            "the noise not negative"
        )
    if metadata.nphotons not in (None, nphotons):
        raise ConfigurationError(
            f"nphotons={nphotons:g} but metadata.nphotons={metadata.nphotons:g}; leave the latter"
        )
    rng = np.random.default_rng(seed)
    position_rng, object_rng = rng.spawn(2)
    displacement_rng, detector_rng = rng.spawn(2)
    beam = shape_beam(
        probe, N, options=probe_options, apodisation=apodisation, mode_powers=mode_powers
    )
    if overlap is not None:
        step = (1 - overlap) * effective_diameter(beam)
    step = N / 16 if step is None else step
    placement = place_scan(
        scan_pattern,
        num_positions=num_positions,
        N=N,
        step=step,
        drift=drift,
        position_noise=position_noise,
        pattern_rng=position_rng,
        displacement_rng=displacement_rng,
    )
    obj = _find_object(object, placement, object_shape, object_options, object_rng)
    perfect = DetectorPixels(_PERFECT, N, detector_rng)
    unit = SimulatedPatterns(
        obj, beam, placement.positions, seed=None, pixels=perfect, device=device
    )
    energy = unit.mean_energy()
    if not 0 < energy < np.inf:
        raise ConfigurationError(
            f"the object lets {energy:g} of the probe's power through, the mean over the scan; "
            "give one whose transmission is near 1"
        )
    beam = beam * np.sqrt(nphotons / energy)
    pixels = DetectorPixels(detector, N, detector_rng)
    known = with_object_pixel(metadata, N)
    description = {
        "object": object if isinstance(object, str) else "array",
        "object_options": object_options,
        "probe": probe if isinstance(probe, str) else "array",
        "probe_options": probe_options,
        "apodisation": apodisation,
        "mode_powers": None if mode_powers is None else list(mode_powers),
        "scan_pattern": scan_pattern if isinstance(scan_pattern, str) else "array",
        "step": step,
        "overlap": overlap,
        "drift": list(drift),
        "position_noise": position_noise,
        "nphotons": nphotons,
        "noise": noise,
        "detector": asdict(detector),
        "seed": seed,
        "device": device,
        "version": __version__,
    }
    return Scan(
        name="simulated scan",
        patterns=SimulatedPatterns(
            obj,
            beam,
            placement.positions,
            seed=seed if noise else None,
            pixels=pixels,
            device=device,
        ),
        measurement_domain="counts",
        positions=placement.positions,
        positions_start=placement.nominal,
        probe=beam.astype(np.complex64),
        object_guess=obj,
        scan_index=np.arange(len(placement.positions)),
        bad_pixels=pixels.bad_pixels,
        metadata=ScanMetadata(**_plain(asdict(replace(known, nphotons=nphotons)))),
        provenance={"simulated": _plain(description)},
    )


def _as_name(source: str | Path | NDArray[Any]) -> str | NDArray[Any]:
    """Take a path for the name of a file, which it always is."""
    if not isinstance(source, Path):
        return source
    if not is_file_name(str(source)):
        raise ConfigurationError(f"the file '{source}' must have an ending that says its format")
    return str(source)


def _plain(value: Any) -> Any:
    """Turn NumPy's scalars and arrays into plain Python values, which JSON can say."""
    if isinstance(value, Mapping):
        return {_plain(key): _plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    return value.tolist() if isinstance(value, np.ndarray | np.generic) else value


def _check_numbers(
    *,
    num_positions: int | None,
    N: int,
    nphotons: float,
    step: float | None,
    overlap: float | None,
) -> None:
    positive = {"num_positions": num_positions, "N": N, "nphotons": nphotons, "step": step}
    given = {name: value for name, value in positive.items() if value is not None}
    if N < 8 or N % 2 or not all(np.isfinite(value) and value > 0 for value in given.values()):
        listed = ", ".join(f"{name}={value:g}" for name, value in given.items())
        raise ConfigurationError(
            f"{listed} must be positive, and N an even number of at least 8 pixels"
        )
    if overlap is not None and step is not None:
        raise ConfigurationError(f"step={step:g} and overlap={overlap:g}: give only one of them")
    if overlap is not None and not 0 <= overlap < 1:
        raise ConfigurationError(f"overlap={overlap:g} must be in [0, 1)")


def _find_object(
    source: str | NDArray[np.complex64],
    placement: Placement,
    shape: tuple[int, int] | None,
    options: dict[str, Any] | None,
    rng: np.random.Generator,
) -> NDArray[np.complex64]:
    is_named = isinstance(source, str) and not is_file_name(source)
    if shape is not None and not is_named:
        raise ConfigurationError(
            f"object_shape={tuple(shape)} is for named objects; a given one has its own shape"
        )
    if isinstance(source, str) and is_named:
        obj = make_object(source, shape or placement.needed, rng, options)
    elif isinstance(source, str):
        obj = read_object(source, options or {})
    elif options:
        raise ConfigurationError("object_options are for objects that are named or pictures")
    else:
        obj = np.asarray(source, dtype=np.complex64)
    if obj.ndim != 2 or (np.array(obj.shape) < placement.needed).any():
        raise ConfigurationError(
            f"the object is {obj.shape} px but the scan needs {placement.needed}; scan fewer "
            "positions, or give a larger object"
        )
    bad = np.argwhere(~np.isfinite(obj))
    if len(bad):
        name = f"the object of '{source}'" if isinstance(source, str) else "the object"
        row, column = bad[0]
        raise DataContractError(
            f"{name} holds {len(bad)} values that are not finite, the first at row {row}, column "
            f"{column}: {obj[row, column]}; replace them, 1 is vacuum"
        )
    return obj
