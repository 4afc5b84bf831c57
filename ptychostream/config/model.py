"""Shape of the network and of the patches that it works on."""

from typing import Annotated, Literal

from pydantic import Field, NonNegativeFloat, NonNegativeInt, PositiveFloat, PositiveInt

from ptychostream.config.fields import configuration

#: Edge lengths for which the contract defines a network.
PATCH_SIZES = (64, 128, 256)


@configuration
class ModelConfig:
    """Shape of the network and of the patches it works on."""

    N: Annotated[int, Field(ge=16, multiple_of=2)] = 64
    """Edge of patterns, probe and patches, in pixels: 64, 128 or 256 for the CNN; any even number
    from 16 for the others.
    """
    gridsize: PositiveInt = 1
    """Patterns along one side of a group; a group holds C = gridsize² patterns."""
    n_filters_scale: PositiveInt = 2
    """Multiplies the number of filters of every CNN layer."""
    model_type: Literal["pinn", "supervised"] = "pinn"
    """`pinn` learns from the measured patterns alone, `supervised` from labelled patches."""
    architecture: str = "cnn"
    """The generator's name: `cnn` is the contract's network, `unrolled` starts from the physics,
    `fno` and `ffno` are made of Fourier layers, `fast` is small, for live pictures.
    """
    fno_modes: PositiveInt = 12
    """Frequencies kept per axis by a Fourier network (`fno`, `ffno`); at most N / 2."""
    fno_width: PositiveInt = 32
    """Channels of a Fourier network."""
    fno_blocks: PositiveInt = 4
    """Fourier layers of a Fourier network."""
    fno_cnn_blocks: NonNegativeInt = 2
    """Residual pairs of convolutions after the Fourier layers."""
    learned_input_channels: PositiveInt = 1
    """Channels that a learned layer makes of each pattern in front of a Fourier network; at 1 the
    pattern itself is the channel.
    """
    max_hidden_channels: PositiveInt | None = None
    """Upper limit for the channels of every hidden layer of a Fourier network."""
    resnet_width: PositiveInt | None = None
    """Channels inside the residual pairs of a Fourier network; None is `fno_width`."""
    fno_input_transform: Literal["none", "sqrt", "log1p", "instancenorm"] = "none"
    """Transform of the amplitudes in front of a Fourier network."""
    generator_output_mode: Literal["real_imag", "amp_phase_logits", "amp_phase"] = "real_imag"
    """What the two output channels of a Fourier network are: real and imaginary part or amplitude
    and phase, both around a flat object, or logits of amplitude and phase.
    """
    amp_activation: Literal["sigmoid", "swish", "softplus", "relu"] = "sigmoid"
    """Activation of the CNN's amplitude decoder, and of a Fourier network's amplitude logits."""
    cbam_encoder: bool = False
    """Whether each level of the CNN's encoder weighs channels and pixels by attention."""
    border_channels: Literal["four", "outputs"] = "four"
    """How many channels the CNN sets aside for the outer half of the patch: `four`, as PtychoPINN's
    TensorFlow network, or as many as it has `outputs`, as its PyTorch port.
    """
    cnn_input: Literal["amplitude", "intensity"] = "amplitude"
    """What the CNN sees of a pattern I: the `amplitude` √I at a mean power of (N/2)², or the
    `intensity` I · √((N/2)² / mean Σ I²), as PtychoPINN's network in `ci_intensity_v2`. The mean is
    that of the patterns trained on, per experiment, and stays with the model.
    """
    object_big: bool = True
    """Whether the CNN predicts one patch per pattern (True), or one per group."""
    probe_big: bool = True
    """Whether the CNN predicts the outer half of the patch too, from a few channels."""
    probe_mask: bool = False
    """Whether the illumination is cut off outside a disk."""
    probe_mask_sigma: NonNegativeFloat = 1.0
    """Width of the disk's soft edge, in pixels; 0 is a hard edge."""
    probe_mask_diameter: PositiveFloat | None = None
    """Diameter of the disk in pixels; None is N / 2."""
    pad_object: bool = True
    """Whether the CNN's decoder predicts the central half of the patch and pads it."""
    probe_scale: PositiveFloat = 4.0
    """Head-room of the object's amplitude: the probe is scaled such that an object of amplitude 2 /
    probe_scale explains the mean measured energy.
    """
    amplitude_physics_gain: PositiveFloat = 1.0
    """Factor on the predicted amplitude, for a probe whose power is not that of the beam: the true
    beam is this many times the probe that is given.
    """
    gaussian_smoothing_sigma: NonNegativeFloat = 0.0
    """Standard deviation of a Gaussian that smooths the exit wave, in pixels; 0 is off."""
    compat: Literal["none", "upstream"] = "none"
    """`none` is this package's forward physics; `upstream` is PtychoPINN's for the CNN:
    its merge, mask and probe scale, and modes that add coherently.
    """
    fast_width: PositiveInt = 32
    """Channels of the `fast` generator's convolutions."""
    unrolled_steps: PositiveInt = 5
    """Data-consistency steps of the `unrolled` generator."""
    unrolled_width: PositiveInt = 32
    """Channels of each learned correction of the `unrolled` generator."""

    @property
    def group_size(self) -> int:
        """Patterns per group, C."""
        return self.gridsize**2
