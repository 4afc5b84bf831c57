"""Scaling profiles: what patterns are and how they are scaled, an inseparable pair of names."""

from typing import Literal

from ptychostream.errors import ConfigurationError

ScaleContractVersion = Literal["ci_intensity_v2", "legacy_v1"]
ScaleDomain = Literal["count_intensity", "normalized_amplitude"]

#: Version → the domain that belongs to it. `ci_intensity_v2`: patterns are counts, and predictions
#: are compared with them in photons. `legacy_v1`: patterns are amplitudes without a dose, which are
#: brought to a mean of `nphotons` photons.
PROFILES: dict[ScaleContractVersion, ScaleDomain] = {
    "ci_intensity_v2": "count_intensity",
    "legacy_v1": "normalized_amplitude",
}


def check_scaling_profile(version: str | None, domain: str | None, *, where: str = "") -> None:
    """Refuse half a pair, an unknown name, and names that do not belong together.

    Raises
    ------
    ConfigurationError
        If the two are no pair; None and None are one.
    """
    if version is None and domain is None:
        return
    if (version, domain) not in PROFILES.items():
        pairs = " or ".join(f"{v!r} with {d!r}" for v, d in PROFILES.items())
        raise ConfigurationError(
            f"{where}scale_contract_version={version!r} and measurement_domain={domain!r} are no "
            f"scaling profile; set {pairs}, or neither"
        )
