"""Scale true objects to the model's unit, for labels."""

import numpy as np
import torch
from numpy.typing import NDArray

from ptychostream.datasets.batches.scaling import Scales
from ptychostream.datasets.store import GroupStore
from ptychostream.errors import DataContractError
from ptychostream.models.pinn import PtychoPINN
from ptychostream.patches import extract_patches

#: Patterns whose total counts give the scale.
_SAMPLE = 256


@torch.no_grad()
def objects_in_model_unit(
    store: GroupStore,
    model: PtychoPINN,
    scales: Scales,
    objects: list[NDArray[np.complex64]] | None = None,
) -> list[NDArray[np.complex64]]:
    """Scale objects such that, lit by the model's probe, they have the measured energy.

    `objects`: one object per experiment, on the grid that begins at (0, 0); None takes the store's.
    """
    scaled = []
    for experiment in range(store.num_experiments):
        obj = store.object_guess_of(experiment) if objects is None else objects[experiment]
        rows = store.rows(experiment)
        rows = rows[np.linspace(0, len(rows) - 1, min(len(rows), _SAMPLE)).round().astype(int)]
        predicted = 0.0
        if obj is not None:
            whole = torch.as_tensor(obj)
            patches = extract_patches(whole, torch.as_tensor(store.positions[rows]), store.N)
            probe = model.scaled_probe(torch.tensor([experiment]))[0]
            waves = patches[:, None] * probe
            predicted = float(waves.abs().square().sum())
        if obj is None or predicted == 0:
            raise DataContractError(
                f"'{store.path}': the object of experiment {experiment} is "
                f"{'missing' if obj is None else 'zero under the scan'}; labels need it"
            )
        measured = float(store.total_counts[rows].sum() * scales.rms[experiment] ** 2)
        scaled.append((obj * np.sqrt(measured / predicted)).astype(np.complex64))
    return scaled
