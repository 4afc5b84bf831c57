"""Lengths and energies with their units, as files and people write them."""

from functools import cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ptychostream.errors import ConfigurationError, DataContractError

#: Planck's constant times the speed of light.
HC_EV_M = 1.239841984e-6

#: Names that a units library reads otherwise, or not at all: `A` is an ampere there.
_SPELLINGS = {
    "A": "angstrom",
    "Å": "angstrom",
    "Angstrom": "angstrom",
    "Angstroms": "angstrom",
    "angstroms": "angstrom",
    "microns": "micrometer",
    "metre": "meter",
    "metres": "meter",
    "KeV": "keV",
    "kev": "keV",
    "KEV": "keV",
    "EV": "eV",
    "ev": "eV",
}

#: Words in place of a unit that name none.
_NO_UNIT = ("", "none", "unknown", "any", "a.u.", "au", "arbitrary", "nx_length", "nx_energy")


@cache
def _registry() -> Any:
    import pint

    return pint.UnitRegistry()


def unit_of(attributes: Any) -> str | None:
    """Read the `units` attribute of an HDF5 dataset; None where it has none."""
    text = attributes.get("units", attributes.get("unit"))
    if isinstance(text, np.ndarray):
        text = text.ravel()[0] if text.size else None
    if isinstance(text, bytes):
        try:
            text = text.decode()
        except UnicodeDecodeError:
            text = text.decode("latin-1")
    if text is None or str(text).strip().lower() in _NO_UNIT:
        return None
    return str(text).strip()


def convert(values: Any, unit: str, target: str, *, where: str) -> NDArray[np.float64]:
    """Convert numbers from one unit to another; wavelengths and energies are not exchanged."""
    numbers = np.asarray(values, np.float64)
    if unit == target:
        return numbers
    error: Exception | None = None
    # Control systems write units in capitals, too.
    for text in (unit, unit.lower()):
        try:
            return np.asarray(
                _registry().Quantity(numbers, _SPELLINGS.get(text, text)).m_as(target)
            )
        except Exception as found:
            # The library raises errors of many kinds for text that is no unit.
            error = error or found
    raise DataContractError(
        f"{where}: the unit {unit!r} can't be converted to {target} "
        f"({type(error).__name__}); correct the file, or give the value as an option"
    ) from error


def quantity(text: str | float, target: str, *, option: str) -> float:
    """Read an amount such as `8.8keV`, `1.9 m` or `75um`; a bare number is in `target`.

    A bare number that is absurd in that unit is refused, since another one was meant.

    Examples
    --------
    >>> quantity("8.8keV", "eV", option="energy"), quantity("0.5", "m", option="distance")
    (8800.0, 0.5)
    """
    try:
        value, is_bare = float(text), True
    except ValueError:
        is_bare = False
        words = str(text).strip()
        at = next((i for i in range(len(words), 0, -1) if is_number(words[:i])), 0)
        unit = words[at:].strip()
        try:
            value = float(
                _registry().Quantity(float(words[:at]), _SPELLINGS.get(unit, unit)).m_as(target)
            )
        except Exception as error:  # of many kinds, as above
            raise ConfigurationError(
                f"{option}={text!r} is no amount in a unit of {target}; write for example "
                f"{_EXAMPLES.get(target, '1.0 ' + target)}"
            ) from error
    if not np.isfinite(value) or (value <= 0 and option != "defocus"):
        raise ConfigurationError(f"{option}={text!r} must be above zero")
    if is_bare:
        _check_bare(value, str(text).strip(), target, option)
    return value


def _check_bare(value: float, text: str, target: str, option: str) -> None:
    """Refuse a number without a unit that no experiment has in the unit that is assumed."""
    low, high, units = _SENSIBLE.get(option, (0.0, np.inf, ()))
    if low <= abs(value) <= high:
        return
    meant = [f"{text}{unit}" for unit in units]
    meant = [m for m in meant if low <= abs(quantity(m, target, option=option)) <= high]
    raise ConfigurationError(
        f"{option}={text!r} has no unit, and {text} {target} is hardly meant: give it with its "
        f"unit, as {' or '.join(meant or [text + target])}"
        + (f" (or {text}{target}, if it is that)" if meant else "")
    )


#: What numbers without a unit, in eV or metres, may be, and which units may be meant by others.
_SENSIBLE = {
    "energy": (100.0, 1e7, ("keV",)),
    "wavelength": (1e-13, 1e-7, ("angstrom", "nm")),
    "distance": (1e-3, 100.0, ("mm", "cm")),
    "detector_pixel": (1e-6, 1e-3, ("um", "mm")),
    "defocus": (0.0, 0.1, ("um", "mm")),
    "fzp diameter": (1e-6, 1e-2, ("um",)),
    "fzp outer": (1e-9, 1e-5, ("nm",)),
    "fzp stop": (0.0, 1e-2, ("um",)),
}

_EXAMPLES = {"eV": "8.8keV", "m": "1.9m, 75um or 1.24nm"}


def is_number(text: str) -> bool:
    """Return whether a text is a number without a unit."""
    try:
        float(text)
    except ValueError:
        return False
    return True
