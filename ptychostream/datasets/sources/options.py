"""The options with which a scan is read: one list for Python and all commands."""

from collections.abc import Callable
from dataclasses import dataclass, fields, replace
from functools import partial
from pathlib import Path
from typing import Any, Literal

import numpy as np
import yaml
from numpy.typing import NDArray

from ptychostream.datasets.sources.preprocess import ORIENTATIONS, Orientation, Preprocessing
from ptychostream.errors import ConfigurationError, MissingFileError
from ptychostream.scan import MeasurementDomain


@dataclass(frozen=True, kw_only=True)
class InputOptions:
    """How scan files are read, completed and changed; every default leaves the file as it is.

    Lengths and energies are text with a unit, such as `75um`, `1.9m` or `8.8keV`. A FILE may be
    followed by `::PATH`, the array inside it.

    Attributes
    ----------
    format : str, optional
        Name of a file format, where it is not recognised by content.
    reader : str, optional
        Name of one of ptychodus's readers, which then reads the patterns.
    map : str, optional
        Where arrays lie, as `diff3d=entry/patterns,xcoords=scan/x`: names of the NPZ contract and
        paths in the file.
    metadata : str, optional
        YAML file with any of these options, for what a beamline knows of all its scans.
    positions : str, optional
        FILE with the positions: CSV, text, SPEC, HDF5, NPZ, NPY or MATLAB. Of a table, FILE::X,Y
        or FILE::X,Y,TRIGGER names columns; of SPEC's scans, FILE::42::X,Y names one.
    position_unit : str, optional
        `m`, `mm`, `um`, `nm` or `px` (of the object), where the file does not say it.
    step : str, optional
        Steps `DX,DY` of a raster scan, as lengths with a unit or in pixels of the object.
    scan_shape : str, optional
        Rows and columns `ROWS,COLUMNS` of a raster scan; the columns are scanned first.
    scan_rotation : float
        Angle in degrees by which the positions are turned counter-clockwise.
    position_transform : str, optional
        Changes of the positions, in this order: any of `swap`, `flip_x`, `flip_y`, `scale=F`,
        `scale_x=F`, `scale_y=F`, `rotate=DEGREES`, `shear=F`.
    first_trigger : int, optional
        Number that a table's triggers give the first pattern; otherwise as they show it.
    trigger_shift : int
        How many positions later a pattern belongs than its number says; negative is earlier.
    probe : str, optional
        FILE with a probe, `from_patterns`, `gaussian:WIDTH`, or
        `fzp:diameter=…,outer=…[,stop=…][,defocus=…]`.
    probe_transform : str
        Changes of the probe, in this order: `conjugate` turns the sign of its defocus,
        `swap_quadrants` brings its middle from the corner to the centre, `flip_x`, `flip_y` and
        `transpose` mirror it; `none` leaves it.
    defocus : str, optional
        Length by which the probe is propagated behind its focus.
    mask : str, optional
        FILE with bad pixels: not zero where the detector can't be trusted.
    invert_mask : bool, optional
        Whether masks hold the good pixels instead; false says that they are right as they are.
    saturation : float, optional
        Value from which on a pixel is no measurement.
    negative : str
        What happens to negative values: `refuse`, or `zero` them, as after a dark subtraction.
    measurement_domain : str, optional
        `counts` or `amplitude`, where a file does not say it or says it wrongly.
    energy : str, optional
        Photon energy.
    wavelength : str, optional
        Wavelength, instead of the energy.
    distance : str, optional
        Sample to detector.
    detector_pixel : str, optional
        Edge of a detector pixel.
    leave_out : str
        Patterns that are left out with their positions: numbers in the file, from 0, ranges and
        files of numbers, as `3,30:40,lost.txt`.
    leave_out_positions : str
        Positions that are left out alone, before all else, where there are more than patterns:
        numbers from 0 and ranges, as `0` or `300:303`.
    centre : str, optional
        Zero frequency on the detector as the file holds it: `X,Y` in pixels, or `auto`.
    crop : int, optional
        Edge of the window around the centre that is kept, in (binned) pixels.
    pad : int, optional
        Edge to which patterns are filled up with zeros.
    bin : int
        Edge of the blocks of detector pixels that are added up.
    swap_quadrants : bool, optional
        Whether the zero frequency lies in the corner, and is brought to the centre.
    orientation : str, optional
        How patterns are turned: a symmetry of the square, in place of what the file says about
        its detector.
    bad_pixels : str
        `keep` leaves their values and the mask; `zero` sets them to zero; `inpaint` fills them
        from their surroundings. The mask is kept in any case.
    look : str
        How values are looked at for pixels that are no measurement: a `sample` of the patterns,
        `all` of them, or `none`.
    """

    format: str | None = None
    reader: str | None = None
    map: str | None = None
    metadata: str | None = None
    positions: str | None = None
    position_unit: Literal["m", "mm", "um", "nm", "px"] | None = None
    step: str | None = None
    scan_shape: str | None = None
    scan_rotation: float = 0.0
    position_transform: str | None = None
    first_trigger: int | None = None
    trigger_shift: int = 0
    probe: str | None = None
    probe_transform: str = "none"
    defocus: str | None = None
    mask: str | None = None
    invert_mask: bool | None = None
    saturation: float | None = None
    negative: Literal["refuse", "zero"] = "refuse"
    measurement_domain: MeasurementDomain | None = None
    energy: str | None = None
    wavelength: str | None = None
    distance: str | None = None
    detector_pixel: str | None = None
    leave_out: str = ""
    leave_out_positions: str = ""
    centre: str | None = None
    crop: int | None = None
    pad: int | None = None
    bin: int = 1
    swap_quadrants: bool | None = None
    orientation: Orientation | None = None
    bad_pixels: Literal["keep", "zero", "inpaint"] = "keep"
    look: Literal["sample", "all", "none"] = "sample"

    def __post_init__(self) -> None:
        """Refuse what can't be done, before a file is opened.

        Raises
        ------
        ConfigurationError
            If a name is unknown or a number out of range.
        """
        for name in ("leave_out", "leave_out_positions"):
            given: Any = getattr(self, name)
            if not isinstance(given, str):
                numbers = ",".join(str(int(number)) for number in given)
                object.__setattr__(self, name, numbers)
        self.preprocessing()
        for name in ("negative", "look"):
            _check_choice(name, getattr(self, name), _CHOICES[name])
        for word in self.probe_transform.split(","):
            _check_choice("probe_transform", word.strip(), _CHOICES["probe_transform"])
        for name in ("position_unit", "measurement_domain"):
            if getattr(self, name) is not None:
                _check_choice(name, getattr(self, name), _CHOICES[name])
        if self.energy is not None and self.wavelength is not None:
            raise ConfigurationError("energy and wavelength say the same; give one of them")
        if self.step is not None and self.positions is not None:
            raise ConfigurationError("step makes positions, and positions reads them; give one")

    def preprocessing(self) -> Preprocessing:
        """Return what happens to square patterns."""
        return Preprocessing(
            swap_quadrants=False,
            orientation=self.orientation or "identity",
            bad_pixels=self.bad_pixels,
            bin=self.bin,
            crop=self.crop,
            pad=self.pad,
        )

    def given(self) -> dict[str, Any]:
        """Return the options that differ from their defaults."""
        return {
            item.name: getattr(self, item.name)
            for item in fields(self)
            if getattr(self, item.name) != item.default
        }


#: What `probe_transform` does to modes (P, N, N).
PROBE_CHANGES: dict[str, Callable[[NDArray[Any]], NDArray[Any]]] = {
    "conjugate": np.conj,
    "swap_quadrants": partial(np.fft.fftshift, axes=(-2, -1)),
    **{name: ORIENTATIONS[name] for name in ("flip_x", "flip_y", "transpose")},
}

_CHOICES: dict[str, tuple[str, ...]] = {
    "negative": ("refuse", "zero"),
    "probe_transform": ("none", *PROBE_CHANGES),
    "look": ("sample", "all", "none"),
    "position_unit": ("m", "mm", "um", "nm", "px"),
    "measurement_domain": ("counts", "amplitude"),
    "orientation": tuple(ORIENTATIONS),
}


def _check_choice(name: str, value: object, choices: tuple[str, ...]) -> None:
    if value not in choices:
        raise ConfigurationError(f"{name}={value!r}: choose one of {', '.join(choices)}")


def with_metadata_file(options: InputOptions) -> InputOptions:
    """Complete options by those of the file that `metadata` names; what is given itself stays."""
    if options.metadata is None:
        return options
    path = Path(options.metadata)
    if not path.is_file():
        raise MissingFileError(f"metadata: no file '{path}'")
    try:
        content = yaml.safe_load(path.read_text())
    except yaml.YAMLError as error:
        raise ConfigurationError(f"'{path}' is no YAML: {str(error).splitlines()[0]}") from error
    if not isinstance(content, dict):
        raise ConfigurationError(f"'{path}' must hold options, as 'energy: 8.8keV'")
    known = {item.name: item for item in fields(InputOptions)}
    unknown = sorted(set(map(str, content)) - set(known))
    if unknown:
        raise ConfigurationError(
            f"'{path}': there is no option {', '.join(unknown)}; there are {', '.join(known)}"
        )
    given = options.given()
    changes: dict[str, Any] = {}
    for name, value in content.items():
        if name in given or name == "metadata":
            continue
        is_text = "str" in str(known[name].type) and not isinstance(value, str | type(None))
        if isinstance(value, list | tuple):
            value = ",".join(map(str, value))
        changes[name] = str(value) if is_text and not isinstance(value, str) else value
    return replace(options, **changes)
