"""A trained model and the choices that it was made with."""

from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from ptychostream.config import TrainingConfig
from ptychostream.errors import DataContractError
from ptychostream.models.merge import merge_group
from ptychostream.models.pinn import PtychoPINN
from ptychostream.physics import intensity


@dataclass(frozen=True, eq=False, kw_only=True)
class ModelBundle:
    """Everything that inference needs; no global state.

    Attributes
    ----------
    model : PtychoPINN
        The network, on the CPU and in evaluation mode.
    config : TrainingConfig
        What it was trained with.
    intensity_scale : float
        From the network's input (mean energy (N/2)²) to √photons.
    probe_guess : (E, P, N, N) complex64
        Illumination that training began with.
    history : dict
        `train_loss` and, with validation, `val_loss`: one number per epoch.
    """

    model: PtychoPINN
    config: TrainingConfig
    intensity_scale: float
    probe_guess: NDArray[np.complex64]
    history: dict[str, list[float]] = field(default_factory=dict)

    @torch.no_grad()
    def predict(self, inputs: Any) -> NDArray[np.complex64]:
        """Predict objects as the specification calls it, channels last.

        Parameters
        ----------
        inputs : sequence of two arrays
            Normalised amplitude (mean energy (N/2)²) times `intensity_scale` (B, N, N, C), and
            local offsets (B, 1, 2, C): centre minus member (x, y), in pixels. NumPy or torch.

        Returns
        -------
        (B, N, N, 1) complex64
            The object around each group's centre: its members' patches, merged.

        Raises
        ------
        DataContractError
            If the shapes do not fit the model.
        """
        scaled, offsets = (
            torch.as_tensor(np.asarray(part), dtype=torch.float32) for part in inputs
        )
        edge, members = self.config.model.N, self.config.model.group_size
        fits = scaled.shape[1:] == (edge, edge, members) and offsets.shape[1:] == (1, 2, members)
        if not fits or len(scaled) != len(offsets):
            raise DataContractError(
                f"predict got {tuple(scaled.shape)} and {tuple(offsets.shape)}, expected "
                f"(B, {edge}, {edge}, {members}) and (B, 1, 2, {members})"
            )
        diffraction = scaled.movedim(-1, 1) / self.intensity_scale
        relative = offsets.movedim(-1, 1)
        patches = self.model.reconstruct(diffraction.contiguous(), relative.contiguous())
        # A member at the centre itself cuts the merged object out where the group is.
        probe = self.model.scaled_probe(torch.zeros(len(patches), dtype=torch.int64))
        blank = torch.zeros_like(patches[:, :1])
        light = intensity(probe)[:, None].expand(patches.shape)
        light = torch.cat([light, torch.zeros_like(light[:, :1])], dim=1)
        centred = merge_group(
            torch.cat([patches, blank], dim=1),
            torch.cat([relative, torch.zeros_like(relative[:, :1])], dim=1),
            light,
        )
        return np.asarray(centred[:, -1, :, :, None].numpy())
