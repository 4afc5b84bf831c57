"""A trained model and its configuration."""

from dataclasses import dataclass, field
from typing import Any, Literal, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ptychostream.config import TrainingConfig
from ptychostream.errors import DataContractError
from ptychostream.legacy import canvas_of
from ptychostream.models.merge import merge_group
from ptychostream.models.pinn import PtychoPINN
from ptychostream.models.ptychopinn_convention import reconstruct_as_ptychopinn, waves_as_ptychopinn
from ptychostream.models.smoothing import gaussian_smooth
from ptychostream.physics import exit_wave, intensity, propagate_far_field

#: Conventions around the network: ours, or those of PtychoPINN's TensorFlow model.
Convention = Literal["ours", "upstream"]


class Autoencoded(NamedTuple):
    """Output of the model `autoencoder` of an archive, channels last.

    Attributes
    ----------
    object : (B, N, N, 1) complex64
        As `ModelBundle.predict` returns it.
    amplitude : (B, N, N, C) float32
        Predicted diffraction of each member, in the unit of the input.
    intensity : (B, N, N, C) float32
        Its square.
    """

    object: NDArray[np.complex64]
    amplitude: NDArray[np.float32]
    intensity: NDArray[np.float32]


@dataclass(frozen=True, eq=False, kw_only=True)
class ModelBundle:
    """A trained model with all that a reconstruction needs.

    Attributes
    ----------
    model : PtychoPINN
        The network, on the CPU and in evaluation mode.
    config : TrainingConfig
        What it was trained with.
    intensity_scale : float
        From the network's input (mean power (N/2)²) to √photons.
    probe_guess : (E, P, N, N) complex64
        Illumination that training began with.
    history : dict
        `train_loss` and, with validation, `val_loss`: one number per epoch.
    legacy : dict
        Values of the legacy dictionary that no field of the configuration holds.
    provenance : dict
        What the model was made from, where it was not trained here; plain values.
    """

    model: PtychoPINN
    config: TrainingConfig
    intensity_scale: float
    probe_guess: NDArray[np.complex64]
    history: dict[str, list[float]] = field(default_factory=dict)
    legacy: dict[str, Any] = field(default_factory=dict)
    provenance: dict[str, Any] = field(default_factory=dict)

    @torch.no_grad()
    def predict(self, inputs: Any, *, convention: Convention = "ours") -> NDArray[np.complex64]:
        """Predict objects with PtychoPINN's call, channels last.

        Parameters
        ----------
        inputs : sequence of two arrays
            Normalised amplitude (mean power (N/2)²) times `intensity_scale` (B, N, N, C), and
            local offsets (B, 1, 2, C): mean minus member (x, y), in pixels. NumPy or torch.
        convention : str
            How members become one object: `ours` averages them by their light, `upstream` does
            what PtychoPINN's TensorFlow model does (`models.ptychopinn_convention`).

        Returns
        -------
        (B, N, N, 1) complex64
            The object around each group's mean position: its members' patches, merged.

        Raises
        ------
        DataContractError
            If the shapes do not fit the model.
        """
        return self._merged(*self._inputs(inputs), convention)[0]

    @torch.no_grad()
    def autoencode(self, inputs: Any, *, convention: Convention = "ours") -> Autoencoded:
        """Predict objects, and from them the diffraction again.

        Parameters
        ----------
        inputs : sequence of two arrays
            As `predict` takes them.
        convention : str
            Likewise; also decides whether waves are smoothed before they are masked.

        Returns
        -------
        Autoencoded
            Object, amplitude and intensity.

        Raises
        ------
        DataContractError
            If the shapes do not fit the model.
        """
        obj, members = self._merged(*self._inputs(inputs), convention)
        if convention == "upstream":
            waves = waves_as_ptychopinn(self.model, members)
        else:
            waves = exit_wave(members, self._probe(len(members))[:, None])
            waves = gaussian_smooth(waves, self.config.model.gaussian_smoothing_sigma)
        amplitude = intensity(propagate_far_field(waves)).sqrt() * self.intensity_scale
        last = amplitude.movedim(1, -1).numpy()
        return Autoencoded(obj, last, last**2)

    def _inputs(self, inputs: Any) -> tuple[Tensor, Tensor]:
        """Check the inputs of `predict`, and move their channels first."""
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
        return diffraction.contiguous(), offsets.movedim(-1, 1).contiguous()

    def _probe(self, groups: int) -> Tensor:
        return self.model.scaled_probe(torch.zeros(groups, dtype=torch.int64))

    def _merged(
        self, diffraction: Tensor, relative: Tensor, convention: Convention
    ) -> tuple[NDArray[np.complex64], Tensor]:
        """Return the object around each group's mean position, and its members' patches."""
        if convention == "upstream":
            members, centred = reconstruct_as_ptychopinn(
                self.model, diffraction, relative, canvas_of(self.config.model, self.legacy)
            )
            return np.asarray(centred[..., None].numpy()), members
        patches = self.model.reconstruct(diffraction, relative)
        # A member at the mean position cuts the merged object out there.
        blank = torch.zeros_like(patches[:, :1])
        light = intensity(self._probe(len(patches)))[:, None].expand(patches.shape)
        light = torch.cat([light, torch.zeros_like(light[:, :1])], dim=1)
        both = merge_group(
            torch.cat([patches, blank], dim=1),
            torch.cat([relative, torch.zeros_like(relative[:, :1])], dim=1),
            light,
        )
        return np.asarray(both[:, -1, :, :, None].numpy()), both[:, :-1]
