"""The base class of generators: a new network is one subclass."""

from abc import ABC, abstractmethod
from typing import ClassVar, Self

from torch import Tensor, nn
from typing_extensions import override

from ptychostream.config import ModelConfig


class Generator(nn.Module, ABC):
    """Turn the diffraction patterns of groups into object patches.

    The amplitudes are scaled such that a pattern has a mean power of (N/2)², and the probe
    such that Σ|probe · object|² is in the same unit: a generator receives no photon counts, and
    its result does not depend on the dose. Letters: B groups, C patterns per group, P modes.

    Attributes
    ----------
    merges_groups : bool
        Whether the patches of a group agree where they overlap, so that they need no merging.
    takes_canvas_size : bool
        Whether `forward` takes a fifth argument, `canvas_size`: a `models.canvas_size.CanvasSize`
        that holds for all batches of a training, or None. A generator whose arrays depend on the
        positions takes their sizes from it, so that no step waits for the device.
    fields : frozenset of str
        Fields of `ModelConfig` that only some generators use, this one among them. Changing
        one that the chosen generator does not use is an error.
    """

    merges_groups: bool = False
    takes_canvas_size: ClassVar[bool] = False
    fields: ClassVar[frozenset[str]] = frozenset()

    @classmethod
    def check_config(cls, config: ModelConfig) -> None:
        """Refuse values that the network can't be built with, before data are prepared.

        Parameters
        ----------
        config : ModelConfig
            The configuration.

        Raises
        ------
        ConfigurationError
            If a value does not fit.
        """

    @classmethod
    @abstractmethod
    def from_config(cls, config: ModelConfig) -> Self:
        """Build the network that a configuration describes.

        Parameters
        ----------
        config : ModelConfig
            The configuration.

        Returns
        -------
        Generator
            The network, with freshly initialised weights.
        """

    @abstractmethod
    @override
    def forward(
        self,
        diffraction: Tensor,
        probe: Tensor,
        coords_relative: Tensor,
        good_pixels: Tensor | None = None,
    ) -> Tensor:
        """Reconstruct object patches.

        Parameters
        ----------
        diffraction : (B, C, N, N) float32
            Measured amplitude, zero frequency at pixel (N/2, N/2); zero at bad pixels.
        probe : (B, P, N, N) complex64
            Illumination of each group.
        coords_relative : (B, C, 1, 2) float32
            Mean position of the group minus position of the member (x, y), in pixels.
        good_pixels : (B, N, N) bool, optional
            False at bad pixels; None where it can everywhere.

        Returns
        -------
        (B, C, N, N) complex64
            Transmission under each pattern, patch pixel (N/2, N/2) at the member's position.
        """
