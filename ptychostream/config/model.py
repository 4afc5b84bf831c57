"""Shape of the network and of the patches that it works on."""

from dataclasses import dataclass
from typing import Literal

from ptychostream.config.checks import check_at_least, check_choices, take_plain_values
from ptychostream.errors import ConfigurationError

#: Edge lengths for which the contract defines a network.
PATCH_SIZES = (64, 128, 256)


@dataclass(frozen=True, kw_only=True)
class ModelConfig:
    """Shape of the network and of the patches it works on.

    Attributes
    ----------
    N : int
        Edge of patterns, probe and patches, in pixels: 64, 128 or 256 for the CNN; any even
        number from 16 for the others.
    gridsize : int
        Patterns along one side of a group; a group holds C = gridsize² patterns.
    n_filters_scale : int
        Multiplies the number of filters of every CNN layer.
    model_type : str
        `pinn` learns from the measured patterns alone, `supervised` from labelled patches.
    architecture : str
        The generator's name: `cnn` is the contract's network, `unrolled` starts from the physics,
        `fno` and `ffno` are made of Fourier layers.
    fno_modes : int
        Frequencies kept per axis by a Fourier network (`fno`, `ffno`); at most N / 2.
    fno_width : int
        Channels of a Fourier network.
    fno_blocks : int
        Fourier layers of a Fourier network.
    fno_cnn_blocks : int
        Residual pairs of convolutions after the Fourier layers.
    learned_input_channels : int
        Channels that a learned layer makes of each pattern in front of a Fourier network; at 1
        the pattern itself is the channel.
    max_hidden_channels : int, optional
        Upper limit for the channels of every hidden layer of a Fourier network.
    resnet_width : int, optional
        Channels inside the residual pairs of a Fourier network; None is `fno_width`.
    fno_input_transform : str
        Transform of the amplitudes in front of a Fourier network.
    generator_output_mode : str
        What the two output channels of a Fourier network are: real and imaginary part or amplitude
        and phase, both around a flat object, or logits of amplitude and phase.
    amp_activation : str
        Activation of the CNN's amplitude decoder, and of a Fourier network's amplitude logits.
    cbam_encoder : bool
        Whether each level of the CNN's encoder weighs channels and pixels by attention.
    object_big : bool
        Whether the CNN predicts one patch per pattern (True), or one per group.
    probe_big : bool
        Whether the CNN predicts the outer half of the patch too, from a few channels.
    probe_mask : bool
        Whether the illumination is cut off outside a disk.
    probe_mask_sigma : float
        Width of the disk's soft edge, in pixels; 0 is a hard edge.
    probe_mask_diameter : float, optional
        Diameter of the disk in pixels; None is N / 2.
    pad_object : bool
        Whether the CNN's decoder predicts the central half of the patch and pads it.
    probe_scale : float
        Head-room of the object's amplitude: the probe is scaled such that an object of
        amplitude 2 / probe_scale explains the mean measured energy.
    gaussian_smoothing_sigma : float
        Standard deviation of a Gaussian that smooths the exit wave, in pixels; 0 is off.
    compat : str
        `none` is this package's forward physics; `upstream` is the existing backend's for the CNN:
        its merge, mask and probe scale, and modes that add coherently.
    unrolled_steps : int
        Data-consistency steps of the `unrolled` generator.
    unrolled_width : int
        Channels of each learned correction of the `unrolled` generator.
    """

    N: int = 64
    gridsize: int = 1
    n_filters_scale: int = 2
    model_type: Literal["pinn", "supervised"] = "pinn"
    architecture: str = "cnn"
    fno_modes: int = 12
    fno_width: int = 32
    fno_blocks: int = 4
    fno_cnn_blocks: int = 2
    learned_input_channels: int = 1
    max_hidden_channels: int | None = None
    resnet_width: int | None = None
    fno_input_transform: Literal["none", "sqrt", "log1p", "instancenorm"] = "none"
    generator_output_mode: Literal["real_imag", "amp_phase_logits", "amp_phase"] = "real_imag"
    amp_activation: Literal["sigmoid", "swish", "softplus", "relu"] = "sigmoid"
    cbam_encoder: bool = False
    object_big: bool = True
    probe_big: bool = True
    probe_mask: bool = False
    probe_mask_sigma: float = 1.0
    probe_mask_diameter: float | None = None
    pad_object: bool = True
    probe_scale: float = 4.0
    gaussian_smoothing_sigma: float = 0.0
    compat: Literal["none", "upstream"] = "none"
    unrolled_steps: int = 5
    unrolled_width: int = 32

    def __post_init__(self) -> None:
        """Refuse values that no network can be built from.

        Raises
        ------
        ConfigurationError
            If a value is out of range, of another kind, or is not one of its choices.
        """
        take_plain_values(self)
        check_choices(self)
        check_at_least(self, 1, "gridsize", "n_filters_scale", "unrolled_steps", "unrolled_width")
        check_at_least(self, 1, "fno_modes", "fno_width", "fno_blocks", "learned_input_channels")
        check_at_least(self, 1, "max_hidden_channels", "resnet_width")
        check_at_least(self, 0, "fno_cnn_blocks")
        check_at_least(self, 0, "probe_mask_sigma", "gaussian_smoothing_sigma")
        check_at_least(self, 0, "probe_scale", "probe_mask_diameter", exclusive=True)
        if self.N < 16 or self.N % 2:
            raise ConfigurationError(f"N={self.N} must be an even number of pixels, at least 16")

    @property
    def group_size(self) -> int:
        """Patterns per group, C."""
        return self.gridsize**2
