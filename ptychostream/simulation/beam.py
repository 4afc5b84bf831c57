"""The probe of a simulated scan: named, read or given, then shaped."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ptychostream.errors import ConfigurationError
from ptychostream.simulation.files import is_file_name, read_probe
from ptychostream.simulation.probes import make_probe
from ptychostream.simulation.probes.apodise import apodise
from ptychostream.simulation.probes.modes import incoherent_modes


def shape_beam(
    probe: str | NDArray[np.complexfloating],
    N: int,
    *,
    options: Mapping[str, Any] | None,
    apodisation: float,
    mode_powers: Sequence[float] | None,
) -> NDArray[np.complex128]:
    """Make, apodise and split a probe.

    Parameters
    ----------
    probe : str or (P, N, N) complex
        Name of a probe, name of a file, or the illumination.
    apodisation : float
        Part of the half edge over which the probe fades to zero.
    mode_powers : sequence of float, optional
        Shares of orthogonal incoherent modes; None leaves the modes as they are.

    Returns
    -------
    (P, N, N) complex128
        The probe, of total power 1.

    Raises
    ------
    ConfigurationError
        If the probe has another edge or no power, or options are given for one that is not named.
    """
    if isinstance(probe, str) and not is_file_name(probe):
        beam = make_probe(probe, N, options)
    elif options:
        raise ConfigurationError("probe_options are for probes that are named")
    else:
        beam = read_probe(probe) if isinstance(probe, str) else np.asarray(probe, np.complex128)
    beam = beam.reshape(-1, *beam.shape[-2:])
    if beam.shape[-2:] != (N, N):
        raise ConfigurationError(f"the probe is {beam.shape[-2:]} px but N={N}")
    beam = apodise(beam, apodisation)
    power = np.sum(np.abs(beam) ** 2)
    if not np.isfinite(power) or power == 0:
        raise ConfigurationError(f"the probe's power is {power:g}; it must be above zero")
    beam = beam / np.sqrt(power)
    return beam if mode_powers is None else incoherent_modes(beam, mode_powers)
