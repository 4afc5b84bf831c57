"""Scale factors between measured amplitudes, network inputs and photons, per experiment."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ptychostream.datasets.store.group_store import GroupStore
from ptychostream.errors import DataContractError


@dataclass(frozen=True, eq=False)
class Scales:
    """Factors on the measured amplitude, one per experiment.

    Attributes
    ----------
    rms : (E,) float64
        To the network's input, whose mean energy per pattern is (N/2)².
    physics : (E,) float64
        To √photons; 1 where the data carry photon counts.
    """

    rms: NDArray[np.float64]
    physics: NDArray[np.float64]

    @property
    def intensity_scale(self) -> NDArray[np.float64]:
        """(E,) float64: from the network's input to √photons, √(mean photons) / (N/2)."""
        return self.physics / self.rms


def scales_of(store: GroupStore, nphotons: float = 1e9) -> Scales:
    """Derive the scale factors from a store's recorded pattern energies.

    Parameters
    ----------
    store : GroupStore
        The data.
    nphotons : float
        Mean photons per pattern, for data that carry no photon counts.

    Returns
    -------
    Scales
        One pair per experiment.

    Raises
    ------
    DataContractError
        If an experiment's patterns are all zero.
    """
    energy = np.array(
        [store.energy[store.experiment_id == e].mean() for e in range(store.num_experiments)]
    )
    if not energy.all():
        raise DataContractError(
            f"'{store.path}': all patterns of experiment {int(energy.argmin())} are zero"
        )
    rms = (store.N / 2) / np.sqrt(energy)
    if store.has_photon_counts:
        return Scales(rms, np.ones_like(rms))
    return Scales(rms, np.sqrt(nphotons / energy))
