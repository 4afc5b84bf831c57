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

    Examples
    --------
    >>> quantity("8.8keV", "eV", option="energy"), quantity("0.5", "m", option="distance")
    (8800.0, 0.5)
    """
    try:
        value = float(text)
    except ValueError:
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
    return value


_EXAMPLES = {"eV": "8.8keV", "m": "1.9m, 75um or 1.24nm"}


def is_number(text: str) -> bool:
    """Return whether a text is a number without a unit."""
    try:
        float(text)
    except ValueError:
        return False
    return True
