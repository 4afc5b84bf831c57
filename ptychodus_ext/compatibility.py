"""Which ptychodus is installed, whether it is supported, and what its versions differ in."""

import dataclasses
import inspect
import re
from collections.abc import Mapping
from importlib import metadata
from typing import Any

from ptychostream.errors import BackendUnavailableError

#: First version that is supported, and first that is not.
SUPPORTED = ((1, 6), (1, 8))
_INSTALL = "pip install 'ptychodus[gui]>=1.6,<1.8'"


def is_supported(version: str) -> bool:
    """Return whether the extension is made for a version of ptychodus.

    Examples
    --------
    >>> is_supported("1.6.0"), is_supported("1.5.1"), is_supported("1.8.0rc1")
    (True, False, False)
    """
    match = re.match(r"(\d+)\.(\d+)", version)
    if match is None:
        return False
    return SUPPORTED[0] <= (int(match[1]), int(match[2])) < SUPPORTED[1]


def installed_version() -> str:
    """Find the installed ptychodus."""
    try:
        version = metadata.version("ptychodus")
    except metadata.PackageNotFoundError as error:
        raise BackendUnavailableError(f"ptychodus is not installed; {_INSTALL}") from error
    if not is_supported(version):
        raise BackendUnavailableError(
            f"ptychodus {version} is installed but 1.6 or 1.7 is needed; {_INSTALL}"
        )
    return version


def check_parameters(kind: Any, *names: str) -> inspect.Signature:
    """Check that a class of ptychodus takes the arguments that the extension knows."""
    signature = inspect.signature(kind.__init__)
    missing = [name for name in names if name not in signature.parameters]
    if missing:
        raise BackendUnavailableError(
            f"{kind.__name__} of ptychodus {metadata.version('ptychodus')} takes "
            f"{', '.join(signature.parameters)} but not {', '.join(missing)}; install a version "
            f"that ptychostream supports: {_INSTALL}"
        )
    return signature


def is_far_field(metadata: Any) -> bool:
    """Return whether a product is of the far field; ptychodus 1.6 knows no other."""
    return bool(getattr(metadata, "far_field", True))


#: What versions 1.7 and 1.6 call the photon energy.
_ENERGIES = ("photon_energy_eV", "probe_energy_eV")


def photon_energy_eV(metadata: Any) -> float | None:
    """Return the photon energy of a product, in eV."""
    return next((e for name in _ENERGIES if (e := getattr(metadata, name, None))), None)


def known_fields(kind: type, values: Mapping[str, Any], *, energy_eV: float | None) -> Any:
    """Return the values that a class of this version has, the photon energy under its name."""
    names = {field.name for field in dataclasses.fields(kind)}
    given = {**values, **dict.fromkeys(_ENERGIES, energy_eV)}
    return {name: value for name, value in given.items() if name in names}
