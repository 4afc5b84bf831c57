"""Scale factors between measured amplitudes, network inputs and photons, per experiment."""

import logging
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from ptychostream.config import TrainingConfig
from ptychostream.config.scaling_profile import PROFILES, ScaleContractVersion
from ptychostream.datasets.store.group_store import GroupStore
from ptychostream.errors import DataContractError

logger = logging.getLogger(__name__)


@dataclass(frozen=True, eq=False)
class Scales:
    """Factors on the measured amplitude, one per experiment.

    Attributes
    ----------
    rms : (E,) float64
        To the network's input, whose mean power per pattern is (N/2)².
    physics : (E,) float64
        To √photons; 1 with `ci_intensity_v2`, whose data carry photon counts.
    """

    rms: NDArray[np.float64]
    physics: NDArray[np.float64]

    @property
    def intensity_scale(self) -> NDArray[np.float64]:
        """(E,) float64: from the network's input to √photons, √(mean photons) / (N/2)."""
        return self.physics / self.rms


def profile_of(store: GroupStore) -> ScaleContractVersion:
    """Return the scaling profile that fits a store's data."""
    return "ci_intensity_v2" if store.has_photon_counts else "legacy_v1"


def scales_of(
    store: GroupStore, nphotons: float = 1e9, profile: ScaleContractVersion | None = None
) -> Scales:
    """Compute the scale factors from the total counts of a store's patterns.

    Raises
    ------
    DataContractError
        If an experiment's patterns are all zero, or the profile needs counts that the store lacks.
    """
    profile = profile or profile_of(store)
    if profile == "ci_intensity_v2" and not store.has_photon_counts:
        raise DataContractError(
            f"'{store.path}' holds amplitudes without photon counts, but "
            "scale_contract_version='ci_intensity_v2' compares with counts; set 'legacy_v1' with "
            "measurement_domain='normalized_amplitude', or build the store from counts"
        )
    if store.num_experiments == 1:
        energy = store.total_counts.mean(keepdims=True)
    else:
        energy = np.array(
            [store.total_counts[store.rows(e)].mean() for e in range(store.num_experiments)]
        )
    if not energy.all():
        raise DataContractError(
            f"'{store.path}': all patterns of experiment {int(energy.argmin())} are zero"
        )
    rms = (store.N / 2) / np.sqrt(energy)
    if profile == "ci_intensity_v2":
        return Scales(rms, np.ones_like(rms))
    return Scales(rms, np.sqrt(nphotons / energy))


def _photons_of(store: GroupStore, nphotons: float) -> float:
    """Take the dose that the data were simulated with, where the configuration leaves it open."""
    doses = {store.metadata_of(e).nphotons for e in range(store.num_experiments)}
    recorded = doses.pop() if len(doses) == 1 else None
    if recorded is None or recorded == nphotons:
        return nphotons
    if nphotons == TrainingConfig().nphotons:
        logger.info("nphotons=%g, which '%s' was simulated with", recorded, store.path)
        return recorded
    logger.warning("nphotons=%g, but '%s' was simulated with %g", nphotons, store.path, recorded)
    return nphotons


def with_scaling_profile(config: TrainingConfig, store: GroupStore) -> TrainingConfig:
    """Return a configuration whose scaling profile, if it has none, is that of the data."""
    version = config.scale_contract_version or profile_of(store)
    return replace(
        config,
        nphotons=_photons_of(store, config.nphotons) if version == "legacy_v1" else config.nphotons,
        scale_contract_version=version,
        measurement_domain=PROFILES[version],
        # Already copied to n_groups; keeping it would repeat the deprecation warning.
        n_images=None,
    )
