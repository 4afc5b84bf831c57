"""Scale probe and object, of which only the product is known, to photons and transmission."""

import logging

import numpy as np
import torch
from numpy.typing import NDArray

from ptychostream.datasets.store import GroupStore
from ptychostream.physics import intensity

logger = logging.getLogger(__name__)

#: A mean transmission that a probe of true power can explain; outside, the probe's power says
#: nothing, and the object is given a mean amplitude of one.
_PLAUSIBLE_TRANSMISSION = (0.1, 1.1)


def scale_to_photons(
    probe: torch.Tensor, store: GroupStore, experiment: int, *, gain: float = 1.0
) -> tuple[NDArray[np.complex64], float]:
    """Find the probe at its true power, and the factor that the object then takes.

    `probe` (P, N, N): illumination, in the model's unit.
    `store`: gives the measured energy, and the probe's power where it is plausible.
    `gain`: how many times the store's probe the true one is.
    Returns `probe` (P, N, N): σ|probe · object|² is photons.
    """
    energy = float(store.total_counts[store.rows(experiment)].mean())
    given = float((np.abs(store.probe[experiment]) ** 2).sum()) * gain**2
    low, high = _PLAUSIBLE_TRANSMISSION
    if not low <= np.sqrt(energy / given) <= high:
        logger.info(
            "the probe's power %.3g does not fit the measured %.3g per pattern: the object is "
            "given a mean amplitude of one",
            given,
            energy,
        )
        given = energy
    inside = float(intensity(probe).sum())
    # Amplitudes in the model are (N/2) / √energy times the measured ones.
    unit = (store.N / 2) / np.sqrt(energy)
    probe_factor = np.sqrt(given / inside)
    beam = (probe * probe_factor).cpu().numpy().astype(np.complex64)
    return beam, float(1 / (unit * probe_factor))
