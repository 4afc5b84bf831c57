"""Whether patterns that callers hand over are counts or amplitudes."""

import logging
from typing import Any, Literal, TypeAlias

import numpy as np
from numpy.typing import NDArray

from ptychostream.config import TrainingConfig
from ptychostream.config.scaling_profile import ScaleDomain
from ptychostream.datasets.sources.domain import judge, judge_by_steps
from ptychostream.errors import DataContractError
from ptychostream.pattern_sources import PatternSource
from ptychostream.scan import MeasurementDomain, Scan

logger = logging.getLogger(__name__)

#: The configuration's words are accepted, too.
GivenDomain: TypeAlias = MeasurementDomain | ScaleDomain

_MEANT: dict[GivenDomain, Literal["counts", "amplitude"]] = {
    "counts": "counts",
    "amplitude": "amplitude",
    "count_intensity": "counts",
    "normalized_amplitude": "amplitude",
}

#: Patterns that are looked at.
_LOOKED_AT = 16


def settled_domain(
    given: GivenDomain | None, patterns: PatternSource, probe: NDArray[np.complex64]
) -> MeasurementDomain:
    """Return what the patterns are: as declared, else amplitudes unless they count in steps.

    Raises
    ------
    DataContractError
        If the declared word is unknown.
    """
    if given is not None:
        if given not in _MEANT:
            raise DataContractError(
                f"measurement_domain={given!r} is not one of 'counts' and 'amplitude' (in the "
                "configuration's words 'count_intensity' and 'normalized_amplitude')"
            )
        return _MEANT[given]
    sample = _sample(patterns)
    bad = np.zeros(sample.shape[1:], bool)
    by_steps = judge_by_steps(sample, bad)
    if by_steps is not None and by_steps.domain == "counts":
        logger.warning(
            "the patterns are taken for counts: %s; if they are amplitudes, pass "
            "measurement_domain='amplitude'; 'counts' says that they are counts",
            by_steps.evidence,
        )
        return "counts"
    likely = by_steps or judge(sample, bad, probe)
    if likely.domain == "counts" and likely.is_certain:
        logger.warning(
            "the patterns are taken for amplitudes, but look like intensities: %s; pass "
            "measurement_domain='counts', or 'amplitude' if that is what they are",
            likely.evidence,
        )
    return "amplitude"


def warn_of_another_domain(scan: Scan, config: TrainingConfig) -> None:
    """Warn where a configuration's measurement domain is not that of the patterns."""
    if config.measurement_domain == "normalized_amplitude" and scan.measurement_domain == "counts":
        logger.warning(
            "%s holds counts, but the configuration says 'normalized_amplitude': their square "
            "roots are trained on, without their dose; if they are amplitudes, make the data with "
            "measurement_domain='amplitude', else set scale_contract_version='ci_intensity_v2' "
            "and measurement_domain='count_intensity'",
            scan.name,
        )
    if config.measurement_domain == "count_intensity" and scan.measurement_domain == "amplitude":
        sample = _sample(scan.patterns)
        by_steps = judge_by_steps(sample, np.zeros(sample.shape[1:], bool))
        if by_steps is not None and by_steps.domain == "counts":
            logger.warning(
                "the configuration says 'count_intensity', but %s was made with "
                "measurement_domain='amplitude', and is squared although %s; make the data with "
                "measurement_domain='counts' if they are counts",
                scan.name,
                by_steps.evidence,
            )


def _sample(patterns: PatternSource) -> NDArray[Any]:
    number = patterns.shape[0]
    rows = np.unique(np.linspace(0, number - 1, min(number, _LOOKED_AT)).astype(np.int64))
    return patterns.read(rows)
