"""The probe inside the model: its scale, its mask, and whether it learns."""

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from typing_extensions import override

from ptychostream.config import ModelConfig
from ptychostream.models.canvas_size import canvas_support
from ptychostream.models.forward_model import forward_model
from ptychostream.physics import intensity


class ProbeModel(nn.Module):
    """The probes of all experiments, at the model's scale.

    `probe` (E, P, N, N): illumination of each experiment, at any scale.
    """

    def __init__(
        self, config: ModelConfig, probe: NDArray[np.complex64], *, trainable: bool
    ) -> None:
        super().__init__()
        values = _at_model_scale(config, probe)
        self._config = config
        self.parts = nn.Parameter(values, requires_grad=trainable)
        self.register_buffer("guess", values.clone())
        self.guess: Tensor
        self.mask: Tensor | None
        self.register_buffer("mask", forward_model(config).probe_mask, persistent=False)

    def matches_initial_guess(self, probe: NDArray[np.complex64]) -> bool:
        """Return whether these are the probes that training began with, but for their scale.

        `probe` (E, P, N, N): illumination of each experiment, at any scale.
        """
        values = _at_model_scale(self._config, probe)
        if values.shape != self.guess.shape:
            return False
        return torch.allclose(values, self.guess.cpu(), rtol=1e-4, atol=1e-4)

    def support_half_width(self, members: int) -> int:
        """Measure the part of a patch that the probes light before training."""
        guess = torch.view_as_complex(self.guess)
        return canvas_support(intensity(guess if self.mask is None else guess * self.mask), members)

    @override
    def forward(self, experiment_id: Tensor) -> Tensor:
        probe = torch.view_as_complex(self.parts)
        if self.mask is not None:
            probe = probe * self.mask
        if len(probe) == 1:
            return probe.expand(len(experiment_id), -1, -1, -1)
        return probe[experiment_id]


def _at_model_scale(config: ModelConfig, probe: NDArray[np.complex64]) -> Tensor:
    """Return scaled probes as real and imaginary parts, which optimisers and archives support."""
    beams = torch.as_tensor(np.asarray(probe, dtype=np.complex64))
    return torch.view_as_real(forward_model(config).scale_probe(beams)).contiguous()
