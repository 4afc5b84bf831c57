"""The physics-informed network: generator, probe and forward model."""

import copy
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from tensordict import TensorDict
from torch import Tensor, nn
from typing_extensions import override

from ptychostream.config import ModelConfig
from ptychostream.errors import ConfigurationError
from ptychostream.models.canvas_size import CanvasSize
from ptychostream.models.forward_model import forward_model
from ptychostream.models.generators import build_generator
from ptychostream.models.intensity_input import IntensityInput
from ptychostream.models.probe import ProbeModel
from ptychostream.models.smoothing import gaussian_smooth
from ptychostream.physics import exit_wave, fourier_shift, intensity


class Prediction(NamedTuple):
    """Predictions of the model for a batch.

    Attributes
    ----------
    object_patches : (B, C, N, N) complex64
        Transmission under each pattern.
    intensity : (B, C or more, N, N) float32
        Predicted diffraction, in the unit of `rms_scale` · amplitude, squared; of held-out
        neighbours too, where the batch has any.
    """

    object_patches: Tensor
    intensity: Tensor


class PtychoPINN(nn.Module):
    """Reconstruct object patches from diffraction, and predict the diffraction from them.

    Inside, amplitudes are scaled to a mean power of (N/2)² per pattern and probes to match
    (`models.probe`), so that neither network nor loss depend on the dose.

    Parameters
    ----------
    config : ModelConfig
        The network.
    probe : (E, P, N, N) complex64
        Illumination of each experiment, at any scale.
    bad_pixels : (E, N, N) bool, optional
        True where the detector cannot be trusted; such pixels do not count.
    probe_trainable : bool
        Whether the probe is a parameter.
    intensity_scale_trainable : bool
        Whether the scale of the prediction is a parameter.

    Examples
    --------
    >>> import numpy as np
    >>> probe = np.ones((1, 1, 16, 16), dtype=np.complex64)
    >>> model = PtychoPINN(ModelConfig(N=16, architecture="unrolled"), probe)
    >>> model.reconstruct(torch.rand(3, 1, 16, 16), torch.zeros(3, 1, 1, 2)).shape
    torch.Size([3, 1, 16, 16])
    """

    def __init__(
        self,
        config: ModelConfig,
        probe: NDArray[np.complex64],
        *,
        bad_pixels: NDArray[np.bool_] | None = None,
        probe_trainable: bool = False,
        intensity_scale_trainable: bool = False,
    ) -> None:
        super().__init__()
        self.config = config
        self.generator = build_generator(config)
        self.probe = ProbeModel(config, probe, trainable=probe_trainable)
        self.log_scale = nn.Parameter(torch.zeros(()), requires_grad=intensity_scale_trainable)
        self.physics = forward_model(config)
        self.intensity_input = (
            IntensityInput(len(probe)) if config.cnn_input == "intensity" else None
        )
        good = torch.ones(len(probe), config.N, config.N, dtype=torch.bool)
        self.register_buffer("good_pixels", good, persistent=False)
        self.good_pixels: Tensor
        self.flag(bad_pixels)

    @override
    def forward(self, batch: TensorDict, canvas_size: CanvasSize | None = None) -> Prediction:
        probe = self.scaled_probe(batch["experiment_id"])
        size, every = self.config.group_size, batch["coords_relative"]
        relative = every[:, :size] - every[:, :size].mean(dim=1, keepdim=True)
        measured = self.generator_input(self.network_input(batch)[:, :size], batch["experiment_id"])
        known = self._known(batch["experiment_id"])
        if canvas_size is not None and getattr(self.generator, "takes_canvas_size", False):
            patches = self.generator(measured, probe, relative, known, canvas_size)
        else:
            patches = self.generator(measured, probe, relative, known)
        self._check_patches(patches, measured)
        if self.physics.always_merges or not self.generator.merges_groups:
            reach = None if canvas_size is None else canvas_size.reach
            patches = self.physics.merge(patches, relative, intensity(probe), reach)
        waves = exit_wave(patches, probe[:, None])
        if every.shape[1] > size:
            # A held-out neighbour sees the patch of the group's centre, its beam shifted.
            beam = fourier_shift(probe[:, None], every[:, :1] - every[:, size:])
            waves = torch.cat([waves, exit_wave(patches[:, :1], beam)], dim=1)
        waves = gaussian_smooth(waves, self.config.gaussian_smoothing_sigma)
        return Prediction(patches, self.physics.predict(waves))

    def reconstruct(
        self, diffraction: Tensor, coords_relative: Tensor, experiment_id: Tensor | None = None
    ) -> Tensor:
        """Reconstruct object patches, without a prediction.

        Parameters
        ----------
        diffraction : (B, C, N, N) float32
            Amplitude, scaled to a mean power of (N/2)².
        coords_relative : (B, C, 1, 2) float32
            Centre minus member (x, y), in pixels.
        experiment_id : (B,) int64, optional
            Which probe; None is the first.

        Returns
        -------
        (B, C, N, N) complex64
            Transmission under each pattern.
        """
        if experiment_id is None:
            experiment_id = torch.zeros(
                len(diffraction), dtype=torch.int64, device=diffraction.device
            )
        probe = self.scaled_probe(experiment_id)
        known = self._known(experiment_id)
        seen = self.generator_input(diffraction, experiment_id)
        patches: Tensor = self.generator(seen, probe, coords_relative, known)
        return patches

    def _check_patches(self, patches: Tensor, measured: Tensor) -> None:
        """Refuse patches of another shape or kind than a generator has to return."""
        if patches.shape != measured.shape or not patches.is_complex():
            raise ConfigurationError(
                f"the generator {type(self.generator).__name__} returned {patches.dtype} of shape "
                f"{tuple(patches.shape)} for patterns of shape {tuple(measured.shape)}; it must "
                "return complex64 of the same shape, one patch for each pattern"
            )

    def generator_input(self, diffraction: Tensor, experiment_id: Tensor) -> Tensor:
        """Turn amplitudes into what the generator sees: the same, or intensities.

        Parameters
        ----------
        diffraction : (B, C, N, N) float32
            Amplitude, scaled to a mean power of (N/2)².
        experiment_id : (B,) int64
            Experiment of each group.

        Returns
        -------
        (B, C, N, N) float32
            As `ModelConfig.cnn_input` says.
        """
        if self.intensity_input is None:
            return diffraction
        seen: Tensor = self.intensity_input(diffraction, experiment_id)
        return seen

    def _known(self, experiment_id: Tensor) -> Tensor | None:
        """Good pixels (B, N, N) of each group, or None where there are no others."""
        return self.good_pixels[experiment_id] if self._has_bad_pixels else None

    def flag(self, bad_pixels: NDArray[np.bool_] | None) -> None:
        """Set the detector's pixels that do not count.

        Parameters
        ----------
        bad_pixels : (E, N, N) bool, optional
            True where the detector can't be trusted; None is nowhere.
        """
        good = torch.ones(self.good_pixels.shape, dtype=torch.bool, device=self.good_pixels.device)
        if bad_pixels is not None:
            good &= ~torch.as_tensor(bad_pixels, device=good.device)
        self.good_pixels = good
        # Used in every step: reading it from a tensor would make the host wait for the device.
        self._has_bad_pixels = bad_pixels is not None and bool(np.any(bad_pixels))

    def scaled_probe(self, experiment_id: Tensor) -> Tensor:
        """Return the probe of each group, times the learned scale and the gain of the amplitude.

        Parameters
        ----------
        experiment_id : (B,) int64
            Experiment of each group.

        Returns
        -------
        (B, P, N, N) complex64
            Illumination.
        """
        probe: Tensor = self.probe(experiment_id)
        return probe * self.scale

    @property
    def scale(self) -> Tensor:
        """() float32: factor on every probe, the learned one times `amplitude_physics_gain`."""
        return self.log_scale.exp() * self.config.amplitude_physics_gain

    @staticmethod
    def network_input(batch: TensorDict) -> Tensor:
        """Scale the measured amplitudes to a mean energy of (N/2)².

        Parameters
        ----------
        batch : TensorDict
            See `datasets.batches.batch.ENTRIES`.

        Returns
        -------
        (B, C, N, N) float32
            What the model works on.
        """
        diffraction: Tensor = batch["diffraction"]
        scaled: Tensor = diffraction * batch["rms_scale"]
        return scaled

    def with_probe(
        self, probe: NDArray[np.complex64], bad_pixels: NDArray[np.bool_] | None = None
    ) -> "PtychoPINN":
        """Return the network for other data, with the same generator (shared weights).

        Where the data come with the probe that training began with, the trained probe stays;
        else the data's own probe is used.

        Parameters
        ----------
        probe : (E, P, N, N) complex64
            Illumination of the data's experiments, at any scale.
        bad_pixels : (E, N, N) bool, optional
            True where their detector can't be trusted.

        Returns
        -------
        PtychoPINN
            In evaluation mode.
        """
        if self.probe.matches_initial_guess(probe):
            # The detector's mask belongs to the data: archives do not hold it.
            same = copy.copy(self)
            same._buffers = dict(self._buffers)
            same.flag(bad_pixels)
            return same.eval()
        other = PtychoPINN(self.config, probe, bad_pixels=bad_pixels)
        other.generator = self.generator
        with torch.no_grad():
            other.log_scale.copy_(self.log_scale)
        if self.intensity_input is not None:
            other.intensity_input = self.intensity_input.for_experiments(len(probe))
        return other.to(self.log_scale.device).eval()
