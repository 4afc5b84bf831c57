"""The scale of intensities that a network sees, measured on what it is trained on."""

import torch
from torch import Tensor

from ptychostream.training.run import TrainingRun


def intensity_factors(run: TrainingRun) -> Tensor:
    """Measure (N/2) / √(mean Σ x⁴) of each experiment's amplitudes x, in one pass over the groups.

    Returns (E,) float32, for `models.intensity_input`.
    """
    part, size = run.parts["train"], run.config.model.group_size
    sums = torch.zeros(part.store.num_experiments, dtype=torch.float64)
    patterns = torch.zeros_like(sums)
    for batch in run.serve(part, "storage", 0, 1, torch.device("cpu")):
        amplitude = (batch["diffraction"][:, :size] * batch["rms_scale"]).double()
        sums.index_add_(0, batch["experiment_id"], amplitude.pow(4).sum(dim=(1, 2, 3)))
        patterns += size * torch.bincount(batch["experiment_id"], minlength=len(sums))
    return ((run.config.model.N / 2) / (sums / patterns).sqrt()).float()
