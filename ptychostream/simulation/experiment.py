"""Simulate a scan: object, probe and positions in; patterns of a stated dose out."""

from collections.abc import Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ptychostream._version import __version__
from ptychostream.errors import ConfigurationError
from ptychostream.geometry import far_field_pixel_m
from ptychostream.scan import Scan, ScanMetadata
from ptychostream.simulation.checks import check_seed
from ptychostream.simulation.detector import Detector, DetectorPixels
from ptychostream.simulation.patterns import SimulatedPatterns
from ptychostream.simulation.specs import (
    Dose,
    ObjectSpec,
    ProbeSpec,
    ScanSpec,
    as_source,
    describe,
    plain,
)

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
    return _simulate(
        ObjectSpec(as_source(object), object_options, object_shape),
        ProbeSpec(as_source(probe), N, probe_options, apodisation, mode_powers),
        ScanSpec(as_source(scan_pattern), num_positions, step, overlap, drift, position_noise),
        Dose(nphotons, noise, detector),
        metadata=metadata,
        seed=seed,
        device=device,
    )


def _simulate(
    object_spec: ObjectSpec,
    probe_spec: ProbeSpec,
    scan_spec: ScanSpec,
    dose: Dose,
    *,
    metadata: ScanMetadata,
    seed: int,
    device: str,
) -> Scan:
    """Make probe, positions and object, find the dose, and expose."""
    check_seed(seed)
    metadata = _complete(metadata, probe_spec.N, dose.nphotons)
    rng = np.random.default_rng(seed)
    position_rng, object_rng = rng.spawn(2)
    displacement_rng, detector_rng = rng.spawn(2)
    probe = probe_spec.make()
    step = scan_spec.step_for(probe)
    layout = scan_spec.place(probe_spec.N, step, position_rng, displacement_rng)
    obj = object_spec.make(layout.needed, object_rng)
    # The perfect detector is drawn first, too: a seed's dead and hot pixels depend on the order.
    perfect, pixels = (
        DetectorPixels(detector, probe_spec.N, detector_rng)
        for detector in (_PERFECT, dose.detector)
    )
    unit = SimulatedPatterns(obj, probe, layout.positions, seed=None, pixels=perfect, device=device)
    probe = probe * np.sqrt(dose.nphotons / _transmitted_power(unit))
    noise_seed = seed if dose.noise else None
    options = describe(object_spec, probe_spec, scan_spec, dose)
    return Scan(
        name="simulated scan",
        patterns=SimulatedPatterns(
            obj, probe, layout.positions, seed=noise_seed, pixels=pixels, device=device
        ),
        measurement_domain="counts",
        positions=layout.positions,
        positions_start=layout.nominal,
        probe=probe.astype(np.complex64),
        object_guess=obj,
        scan_index=np.arange(len(layout.positions)),
        bad_pixels=pixels.bad_pixels,
        metadata=metadata,
        provenance={
            "simulated": options
            | plain({"step": step, "seed": seed, "device": device, "version": __version__})
        },
    )


def _complete(metadata: ScanMetadata, patch_size: int, nphotons: float) -> ScanMetadata:
    """Add the dose, and the object's pixel size where the far-field geometry decides it."""
    if metadata.nphotons not in (None, nphotons):
        raise ConfigurationError(
            f"nphotons={nphotons:g} but metadata.nphotons={metadata.nphotons:g}; leave the latter"
        )
    energy, distance = metadata.energy_eV, metadata.detector_distance_m
    pixel, object_pixel = metadata.detector_pixel_size_m, metadata.object_pixel_size_m
    if object_pixel is None and energy and distance and pixel:
        object_pixel = far_field_pixel_m(energy, distance, pixel, patch_size)
    complete = replace(metadata, nphotons=nphotons, object_pixel_size_m=object_pixel)
    return ScanMetadata(**plain(asdict(complete)))


def _transmitted_power(unit: SimulatedPatterns) -> float:
    """Return the part of a probe of power 1 that reaches the detector, the mean over the scan."""
    power = unit.mean_power()
    if not 0 < power < np.inf:
        raise ConfigurationError(
            f"the object lets {power:g} of the probe's power through, the mean over the scan; "
            "give one whose transmission is near 1"
        )
    return power
