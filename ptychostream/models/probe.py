"""The probe inside the model: its scale, its mask, and whether it learns."""

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.ndimage import gaussian_filter
from torch import Tensor, nn
from typing_extensions import override

from ptychostream.config import ModelConfig
from ptychostream.models import ptychopinn as upstream
from ptychostream.models.canvas_size import support_half_width
from ptychostream.physics import intensity


def probe_power(patch_size: int, probe_scale: float) -> float:
    """Energy Σ|probe|² that the model gives every probe.

    Parameters
    ----------
    probe_scale : float
        Head-room: an object of amplitude 2 / probe_scale explains the mean measured energy,
        which is (N/2)² in the model's unit.
    """
    return (patch_size / 2 * probe_scale / 2) ** 2


def mask_of(config: ModelConfig) -> Tensor:
    """Make the disk that the illumination is limited to.

    Returns
    -------
    (N, N) float32
        One inside, zero outside; a Gaussian smooths the edge, if sigma is above zero.
    """
    disk = _disk(config.N, config.probe_mask_diameter)
    if config.probe_mask_sigma:
        disk = gaussian_filter(disk, config.probe_mask_sigma, truncate=3.0)
    return torch.as_tensor(disk).float()


def hard_disk(patch_size: int, diameter: float | None = None) -> Tensor:
    """Make a disk without a soft edge.

    Returns
    -------
    (N, N) float32
        One inside, zero outside.
    """
    return torch.from_numpy(_disk(patch_size, diameter)).float()


def _disk(patch_size: int, diameter: float | None) -> NDArray[np.float64]:
    along = np.arange(patch_size) - patch_size / 2 + 0.5
    radius = np.hypot(along[:, None], along)
    return (radius < (diameter or patch_size / 2) / 2).astype(np.float64)


class ProbeModel(nn.Module):
    """The probes of all experiments, at the model's scale.

    Parameters
    ----------
    probe : (E, P, N, N) complex64
        Illumination of each experiment, at any scale.
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
        # The existing backend cuts off the exit wave, not the probe.
        masked = config.probe_mask and config.compat != "upstream"
        mask = mask_of(config) if masked else None
        self.mask: Tensor | None
        self.register_buffer("mask", mask, persistent=False)

    def matches_initial_guess(self, probe: NDArray[np.complex64]) -> bool:
        """Say whether these are the probes that training began with, but for their scale.

        Parameters
        ----------
        probe : (E, P, N, N) complex64
            Illumination of each experiment, at any scale.
        """
        values = _at_model_scale(self._config, probe)
        if values.shape != self.guess.shape:
            return False
        return torch.allclose(values, self.guess.cpu(), rtol=1e-4, atol=1e-4)

    def support_half_width(self, members: int) -> int:
        """Measure the part of a patch that the probes light before training."""
        guess = torch.view_as_complex(self.guess)
        return support_half_width(
            intensity(guess if self.mask is None else guess * self.mask), members
        )

    @override
    def forward(self, experiment_id: Tensor) -> Tensor:
        probe = torch.view_as_complex(self.parts)
        if self.mask is not None:
            probe = probe * self.mask
        if len(probe) == 1:
            return probe.expand(len(experiment_id), -1, -1, -1)
        return probe[experiment_id]


def _at_model_scale(config: ModelConfig, probe: NDArray[np.complex64]) -> Tensor:
    """Scale probes; real and imaginary parts, which optimisers and archives know best."""
    beams = torch.as_tensor(np.asarray(probe, dtype=np.complex64))
    if config.compat == "upstream":
        scaled = upstream.scale_probe(beams, hard_disk(config.N), config.probe_scale)
        return torch.view_as_real(scaled).contiguous()
    power = beams.abs().square().sum(dim=(-3, -2, -1), keepdim=True)
    scaled = beams * (probe_power(config.N, config.probe_scale) / power).sqrt()
    return torch.view_as_real(scaled).contiguous()
