"""Patterns as intensities, in front of the CNN (`cnn_input="intensity"`)."""

import torch
from torch import Tensor, nn
from typing_extensions import override


class IntensityInput(nn.Module):
    """Turn amplitudes into intensities of a mean Σ (intensity²) of (N/2)².

    Amplitudes x come at a mean Σ x² of (N/2)². For patterns I, x = √I times a constant, and

        I · √((N/2)² / mean Σ I²)  =  x² · (N/2) / √(mean Σ x⁴),

    so that the factor on x² does not depend on the dose. It is measured once, before training.

    `factors` (E,): (N/2) / √(mean Σ x⁴) of each experiment.
    """

    def __init__(self, experiments: int) -> None:
        super().__init__()
        self.factors: Tensor
        self.register_buffer("factors", torch.ones(experiments))

    @override
    def forward(self, amplitude: Tensor, experiment_id: Tensor) -> Tensor:
        return amplitude.square() * self.factors[experiment_id][:, None, None, None]

    def for_experiments(self, experiments: int) -> "IntensityInput":
        """Return one for other experiments, with the mean factor of those trained on."""
        other = IntensityInput(experiments)
        other.factors = self.factors.mean().expand(experiments).clone()
        return other
