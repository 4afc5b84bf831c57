"""Everything that decides the result of a training run."""

import warnings
from dataclasses import field
from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field, NonNegativeFloat, NonNegativeInt, PositiveFloat, PositiveInt

from ptychostream.config.fields import AnyPath, PartBelowOne, configuration
from ptychostream.config.model import ModelConfig
from ptychostream.config.scaling_profile import (
    ScaleContractVersion,
    ScaleDomain,
    check_scaling_profile,
)
from ptychostream.errors import ConfigurationError


@configuration
class TrainingConfig:
    """Everything that decides the result of a training run.

    How the run executes (device, precision, learning rate) is `PyTorchExecutionConfig`.
    """

    model: ModelConfig = field(default_factory=ModelConfig)
    """The network."""
    train_data_file: AnyPath | None = None
    """Scan or store to train on; used by workflows that load the data themselves."""
    test_data_file: AnyPath | None = None
    """Scan or store to validate on."""
    batch_size: PositiveInt = 16
    """Groups per optimiser step and device; a power of two for the tensorflow backend."""
    nepochs: PositiveInt = 50
    """Passes over the groups."""
    mae_weight: NonNegativeFloat = 0.0
    """Weight of the mean absolute error of amplitudes."""
    nll_weight: NonNegativeFloat = 1.0
    """Weight of the Poisson negative log-likelihood."""
    realspace_mae_weight: NonNegativeFloat = 0.0
    """Weight of the mean absolute error against true patches, cut out of the store's object;
    supervised training always has it, with a weight of 1 where this is 0.
    """
    targets: Literal["object_guess", "solver"] = "object_guess"
    """What true patches are cut out of: `object_guess` is the store's object; `solver` is what the
    solver makes of the store's own patterns, for which no truth is needed. It is mixed with the
    diffraction loss by `realspace_mae_weight`, 1 where that is 0.
    """
    realspace_weight: NonNegativeFloat = 0.0
    """Weight of the squared differences of neighbouring pixels of the object patches."""
    amplitude_variation_weight: NonNegativeFloat = 0.0
    """Weight of the absolute differences of neighbouring amplitudes: edges stay, noise goes."""
    phase_variation_weight: NonNegativeFloat = 0.0
    """Weight of one minus the cosine of the phase differences of neighbouring pixels."""
    overlap_weight: Annotated[float, Field(ge=0, le=1)] | None = None
    """Part of the diffraction loss, from 0 to 1, that is taken on the pattern of a neighbour which
    the generator does not see. None is 0 for the CNN; for `unrolled` and `fast` it is 1 for lone
    patterns, which otherwise fit their own noise, and 0.25 for groups.
    """
    nphotons: PositiveFloat = 1e9
    """Mean photons per pattern, for data that carry no photon counts themselves, and with
    `legacy_v1`.
    """
    scale_contract_version: ScaleContractVersion | None = None
    """Scaling profile, with `measurement_domain`: `ci_intensity_v2` compares predictions with
    counts, `legacy_v1` with amplitudes brought to `nphotons`. None is the first where data carry
    photon counts, else the second; a trained model knows which it was.
    """
    measurement_domain: ScaleDomain | None = None
    """`count_intensity` with `ci_intensity_v2`, `normalized_amplitude` with `legacy_v1`."""
    n_groups: PositiveInt | None = None
    """Number of groups, each around a position of its own unless `enable_oversampling` draws more;
    None is one around every position of a store (and stands as 512 in the legacy dictionary).
    """
    n_images: PositiveInt | None = None
    """Deprecated alias of `n_groups`."""
    n_subsample: PositiveInt | None = None
    """Patterns drawn from the scan before grouping."""
    groups_per_position: PositiveInt = 1
    """Groups drawn around each position."""
    neighbor_function: Literal["nearest", "min_distance", "four_quadrant"] = "nearest"
    """Which neighbours a group is drawn from: the nearest, the nearest between two distances, or
    one in each quadrant.
    """
    min_neighbor_distance: NonNegativeFloat = 0.0
    """Least distance of a neighbour, in pixels (`min_distance`)."""
    max_neighbor_distance: PositiveFloat | None = None
    """Largest distance of a neighbour, in pixels (`min_distance`); None is any."""
    subsample_seed: NonNegativeInt | None = None
    """Seed of that draw, of the grouping and of the initial weights."""
    neighbor_count: NonNegativeInt = 4
    """Nearest neighbours K that a group is drawn from."""
    enable_oversampling: bool = False
    """Whether more groups than positions may be drawn: different combinations of C patterns (K
    choose C).
    """
    neighbor_pool_size: PositiveInt | None = None
    """Neighbours that oversampling combines; None is `neighbor_count`."""
    positions_provided: bool = True
    """Whether the scan positions are known. They must be."""
    probe_trainable: bool = False
    """Whether the probe is corrected: by a joint refinement with the object before training, and by
    the optimiser during it.
    """
    intensity_scale_trainable: bool = True
    """Whether the scale between prediction and measurement is learned."""
    output_dir: AnyPath = Path("training_outputs")
    """Folder for results."""
    sequential_sampling: bool = False
    """Whether groups are drawn around the first positions in acquisition order, not random ones."""
    backend: Literal["tensorflow", "pytorch"] = "tensorflow"
    """Backend that a workflow dispatches to; `ptychostream.train` itself is PyTorch."""
    torch_loss_mode: Literal["poisson", "mae"] = "poisson"
    """`poisson` uses the weights above; `mae` trains on amplitudes alone."""
    torch_mae_pred_l2_match_target: bool = False
    """Whether each predicted pattern is scaled to the measured energy before the amplitude error.
    """
    gradient_clip_val: PositiveFloat | None = None
    """Limit for gradients; None is off."""
    gradient_clip_algorithm: Literal["norm", "value", "agc"] = "norm"
    """What the limit applies to: the norm of all, each value, or the ratio to the weights (agc)."""
    optimizer: Literal["adam", "adamw", "sgd"] = "adam"
    """The optimiser."""
    momentum: NonNegativeFloat = 0.9
    """Momentum of `sgd`."""
    weight_decay: NonNegativeFloat = 0.0
    """Weight decay of the optimiser."""
    adam_beta1: PartBelowOne = 0.9
    """Decay of the first moment."""
    adam_beta2: PartBelowOne = 0.999
    """Decay of the second moment."""
    scheduler: Literal["Default", "Exponential", "WarmupCosine", "ReduceLROnPlateau"] = "Default"
    """Learning rate schedule; `Default` keeps it constant for the CNN and uses one warm-up and
    cosine decay for `unrolled`.
    """
    lr_warmup_epochs: NonNegativeInt = 0
    """Epochs of linear warm-up (`WarmupCosine`)."""
    lr_min_ratio: NonNegativeFloat = 0.1
    """Last over first learning rate (`WarmupCosine`, `Exponential`). An exponential never reaches
    0: there, 0 stands for 0.001.
    """
    plateau_factor: Annotated[float, Field(gt=0, lt=1)] = 0.5
    """Factor at a plateau (`ReduceLROnPlateau`), above 0 and below 1."""
    plateau_patience: NonNegativeInt = 2
    """Epochs without progress that make a plateau."""
    plateau_min_lr: NonNegativeFloat = 5e-5
    """Least learning rate."""
    plateau_threshold: NonNegativeFloat = 0.0
    """Progress that counts."""
    stage_1_epochs: NonNegativeInt = 0
    """First epochs, on the data loss only: the mean absolute error of normalised amplitudes, which
    knows no photon counts (0 is off).
    """
    stage_2_epochs: NonNegativeInt = 0
    """Epochs after those, of weighted transition to the physics loss: the weighted sum of
    likelihood and amplitude error that is used without stages.
    """
    stage_3_epochs: NonNegativeInt = 0
    """Last epochs of the run, on the physics loss with a lower learning rate. Epochs between stages
    2 and 3 are on the physics loss with the full one.
    """
    physics_weight_schedule: Literal["linear", "cosine", "exponential"] = "cosine"
    """How the weight of the physics loss rises over the epochs of stage 2."""
    stage_3_lr_factor: PositiveFloat = 0.1
    """Factor on the learning rate in stage 3."""
    validation_fraction: PartBelowOne = 0.0
    """Part of the scan, from 0 to below 1, that is held out for validation: one end of its longer
    side, so that no pattern of a training group is in a validation group.
    """

    def __post_init__(self) -> None:
        take_deprecated_n_images(self)
        check_scaling_profile(self.scale_contract_version, self.measurement_domain)
        _check_stages(self)
        if self.backend == "tensorflow":
            _check_tensorflow_limits(self)
        if not (self.mae_weight or self.nll_weight or self.realspace_mae_weight):
            raise ConfigurationError(
                "mae_weight, nll_weight and realspace_mae_weight are all 0: nothing to learn from"
            )

    @property
    def overlap_share(self) -> float:
        """The value that `overlap_weight` stands for."""
        if self.overlap_weight is not None:
            return self.overlap_weight
        starts_from_physics = self.model.architecture in ("unrolled", "fast")
        if not starts_from_physics or self.model.model_type == "supervised":
            return 0.0
        return 1.0 if self.model.gridsize == 1 else 0.25

    @property
    def num_held_out(self) -> int:
        """Neighbours per group whose patterns are predicted but not seen."""
        if not self.overlap_share:
            return 0
        # With gridsize 1 a single held-out pattern is noisy; averaging three costs little.
        return 3 if self.model.gridsize == 1 else 1


def _check_stages(config: TrainingConfig) -> None:
    """Refuse stages that are longer than the run, or a transition without a physics loss."""
    stages = (config.stage_1_epochs, config.stage_2_epochs, config.stage_3_epochs)
    if sum(stages) > config.nepochs:
        raise ConfigurationError(
            f"the stages take {' + '.join(map(str, stages))} epochs but nepochs={config.nepochs}; "
            f"set nepochs to {sum(stages)} or more"
        )
    if any(stages[:2]) and (config.torch_loss_mode == "mae" or not config.nll_weight):
        raise ConfigurationError(
            "stages 1 and 2 go over from the amplitude error to the likelihood, which "
            f"torch_loss_mode={config.torch_loss_mode!r} with nll_weight={config.nll_weight:g} "
            "does not have; set both stages to 0"
        )


def check_supervised(config: TrainingConfig) -> None:
    """Refuse options of the diffraction loss, which supervised training does not have.

    Not checked at construction: programs for PtychoPINN make such configurations for TensorFlow.

    Parameters
    ----------
    config : TrainingConfig
        What is to be trained.

    Raises
    ------
    ConfigurationError
        If such an option is set.
    """
    if config.model.model_type != "supervised":
        return
    unused = {
        "mae_weight": 0.0,
        "overlap_weight": None,
        "torch_loss_mode": "poisson",
        "torch_mae_pred_l2_match_target": False,
        "stage_1_epochs": 0,
        "stage_2_epochs": 0,
        "probe_trainable": False,
    }
    for name, value in unused.items():
        if getattr(config, name) != value:
            raise ConfigurationError(
                f"{name}={getattr(config, name)!r} acts on the diffraction loss, which "
                f"model_type='supervised' does not have; leave it at {value!r}"
            )


def take_deprecated_n_images(config: object) -> None:
    """Move the deprecated `n_images` into `n_groups`, with a warning.

    Parameters
    ----------
    config : TrainingConfig or InferenceConfig
        The configuration under construction.
    """
    n_images = getattr(config, "n_images", None)
    if n_images is None:
        return
    warnings.warn("n_images is deprecated; use n_groups", DeprecationWarning, stacklevel=5)
    if getattr(config, "n_groups", None) is None:
        object.__setattr__(config, "n_groups", n_images)


def _check_tensorflow_limits(config: TrainingConfig) -> None:
    """Refuse what only the PyTorch backend can do."""
    size = config.batch_size
    if size & (size - 1):
        below = 1 << (size.bit_length() - 1)
        raise ConfigurationError(
            f"batch_size={size} must be a power of two for the tensorflow backend: take {below} "
            f"or {2 * below}, or set backend='pytorch'"
        )
    for name in ("mae_weight", "nll_weight"):
        if getattr(config, name) > 1:
            raise ConfigurationError(
                f"{name}={getattr(config, name)} must lie in 0 … 1 for the tensorflow backend; "
                "set backend='pytorch' for other weights"
            )
