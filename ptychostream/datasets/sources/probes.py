"""Probes out of files, and beams made from their dimensions."""

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ptychostream.datasets.sources.arrays import describe, listing, read_array, split_name
from ptychostream.datasets.sources.units import HC_EV_M, quantity
from ptychostream.errors import ConfigurationError, DataContractError

#: Names under which probes lie, of our files, ptychodus's, pty-chi's, ptypy's and others.
_NAMES = (
    "probeGuess",
    "probe",
    "probe_guess",
    "entry_1/instrument_1/source_1/illumination",
    "entry_1/instrument_1/detector_1/probe_guess",
    "reconstructed_data/probe",
    "probes",
)


def read_probe_file(text: str) -> NDArray[np.complex64]:
    """Read a probe named as FILE[::PATH].

    Returns (P, N, N): incoherent modes; the first of coherent modes, where there are several.
    """
    path, inside = split_name(text, option="probe")
    if not inside and path.suffix in (".npy", ".tif", ".tiff", ".png"):
        values = read_array(path, "")[0]
    else:
        values = read_array(path, inside or _name_in(path))[0]
    if values.dtype.names and set(values.dtype.names) >= {"real", "imag"}:
        values = values["real"] + 1j * values["imag"]
    if values.ndim == 2:
        values = values[None]
    elif values.ndim == 3 and values.shape[0] == values.shape[1] != values.shape[2]:
        values = np.moveaxis(values, -1, 0)
    elif values.ndim == 4:
        values = values[0]
    if values.ndim != 3 or values.shape[-1] != values.shape[-2] or values.dtype.kind not in "biufc":
        raise DataContractError(
            f"probe: '{text}' is {values.shape} {values.dtype}, expected (N, N) or (P, N, N)"
        )
    return values.astype(np.complex64)


def _name_in(path: Path) -> str:
    found = listing(path)
    name = next((name for name in _NAMES if name in found), None)
    # ptypy keeps probes below a name of its own.
    name = name or next(
        (n for n in found if n.split("/")[-1] == "data" and "/probe/" in f"/{n}"), None
    )
    if name is None and len(found) == 1:
        name = next(iter(found))
    if name is None:
        raise DataContractError(
            f"probe: '{path}' holds {describe(found)}; name the probe as {path}::PATH"
        )
    return name


def make_beam(
    text: str, patch_size: int, *, pixel_m: float | None, energy_eV: float | None
) -> NDArray[np.complex64]:
    """Make a beam: `gaussian:WIDTH`, or `fzp:diameter=…,outer=…[,stop=…][,defocus=…]`.

    The width is the full one at half of the amplitude's maximum, in pixels or as a length. Of a
    zone plate, the focus has the numerical aperture wavelength / (2 · outermost zone's width).

    Returns (1, N, N): the beam, of total power 1.
    """
    kind, _, rest = text.partition(":")
    if kind == "gaussian":
        beam: NDArray[Any] = _gaussian(rest, patch_size, pixel_m)
    elif kind == "fzp":
        if pixel_m is None or energy_eV is None:
            raise ConfigurationError(
                f"probe={text!r} needs the pixel of the object: give --energy, --distance and "
                "--detector_pixel"
            )
        beam = _zone_plate(rest, patch_size, pixel_m, HC_EV_M / energy_eV)
    else:
        raise ConfigurationError(
            f"probe={text!r} is neither a file, nor gaussian:WIDTH, nor fzp:diameter=…,outer=…"
        )
    return (beam / np.linalg.norm(beam)).astype(np.complex64)[None]


def _gaussian(rest: str, patch_size: int, pixel_m: float | None) -> NDArray[np.float64]:
    try:
        width = float(rest.removesuffix("px"))
    except ValueError:
        if pixel_m is None:
            raise ConfigurationError(
                f"probe='gaussian:{rest}' needs the pixel of the object: give the width in pixels, "
                "as gaussian:20, or --energy, --distance and --detector_pixel"
            ) from None
        width = quantity(rest, "m", option="probe") / pixel_m
    if not width > 0:
        raise ConfigurationError(f"probe='gaussian:{rest}' must be wider than zero")
    along = np.arange(patch_size) - patch_size // 2
    profile = np.exp(-4 * np.log(2) * along**2 / width**2)
    return np.asarray(profile[:, None] * profile)


def _zone_plate(
    rest: str, patch_size: int, pixel_m: float, wavelength_m: float
) -> NDArray[np.complex128]:
    values = dict(word.partition("=")[::2] for word in rest.split(",") if word.strip())
    unknown = set(values) - {"diameter", "outer", "stop", "defocus"}
    if unknown or not {"diameter", "outer"} <= set(values):
        raise ConfigurationError(
            f"probe='fzp:{rest}' must say diameter and outer (the width of the outermost zone), "
            "and may say stop (the diameter of the central stop) and defocus, as "
            "fzp:diameter=180um,outer=50nm,stop=60um,defocus=500um"
        )
    lengths = {
        name: quantity(text, "m", option=f"fzp {name}")
        for name, text in values.items()
        if name != "defocus"
    }
    focal_length = lengths["diameter"] * lengths["outer"] / wavelength_m
    frequency = np.fft.fftfreq(patch_size, pixel_m)
    # A ray of spatial frequency f crosses the zone plate at this distance from its axis.
    radius = np.hypot(frequency[:, None], frequency) * wavelength_m * focal_length
    pixel = wavelength_m * focal_length / (patch_size * pixel_m)
    pupil = 0.5 - 0.5 * np.tanh((radius - lengths["diameter"] / 2) / pixel)
    if "stop" in lengths:
        pupil *= 0.5 + 0.5 * np.tanh((radius - lengths["stop"] / 2) / pixel)
    focus = np.fft.fftshift(np.fft.ifft2(pupil))
    defocus = quantity(values.get("defocus", "0"), "m", option="defocus")
    return np.asarray(propagate(focus, defocus, pixel_m, wavelength_m))


def propagate(
    waves: NDArray[Any], distance_m: float, pixel_m: float, wavelength_m: float
) -> NDArray[np.complex128]:
    """Propagate waves (…, N, N) along the beam, by their angular spectrum without evanescence."""
    frequency = np.fft.fftfreq(waves.shape[-1], pixel_m) * wavelength_m
    squared = frequency[:, None] ** 2 + frequency**2
    phase = 2 * np.pi * distance_m / wavelength_m * (np.sqrt(np.maximum(1 - squared, 0)) - 1)
    spectrum = np.fft.fft2(waves) * np.exp(1j * phase)
    return np.asarray(np.fft.ifft2(spectrum))
