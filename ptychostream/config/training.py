"""Everything that decides the result of a training run."""

import warnings
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from ptychostream.config.checks import check_at_least, check_choices, take_plain_values
from ptychostream.config.model import ModelConfig
from ptychostream.config.scaling_profile import (
    ScaleContractVersion,
    ScaleDomain,
    check_scaling_profile,
)
from ptychostream.errors import ConfigurationError


@dataclass(frozen=True, kw_only=True)
class TrainingConfig:
    """Everything that decides the result of a training run.

    How the run executes (device, precision, learning rate) is `PyTorchExecutionConfig`.

    Attributes
    ----------
    model : ModelConfig
        The network.
    train_data_file : Path, optional
        Scan or store to train on; used by workflows that load the data themselves.
    test_data_file : Path, optional
        Scan or store to validate on.
    batch_size : int
        Groups per optimiser step and device; a power of two for the tensorflow backend.
    nepochs : int
        Passes over the groups.
    mae_weight : float
        Weight of the mean absolute error of amplitudes.
    nll_weight : float
        Weight of the Poisson negative log-likelihood.
    realspace_mae_weight : float
        Weight of the mean absolute error against true patches, cut out of the store's object;
        supervised training always has it, with a weight of 1 where this is 0.
    realspace_weight : float
        Weight of the squared differences of neighbouring pixels of the object patches.
    amplitude_variation_weight : float
        Weight of the absolute differences of neighbouring amplitudes: edges stay, noise goes.
    phase_variation_weight : float
        Weight of one minus the cosine of the phase differences of neighbouring pixels.
    overlap_weight : float, optional
        Part of the diffraction loss, from 0 to 1, that is taken on the pattern of a neighbour
        which the generator does not see. None is 0 for the CNN; for `unrolled` it is 1 for lone
        patterns, which otherwise fit their own noise, and 0.25 for groups.
    nphotons : float
        Mean photons per pattern, for data that carry no photon counts themselves, and with
        `legacy_v1`.
    scale_contract_version : str, optional
        Scaling profile, with `measurement_domain`: `ci_intensity_v2` compares predictions with
        counts, `legacy_v1` with amplitudes brought to `nphotons`. None is the first where data
        carry photon counts, else the second; a trained model knows which it was.
    measurement_domain : str, optional
        `count_intensity` with `ci_intensity_v2`, `normalized_amplitude` with `legacy_v1`.
    n_groups : int, optional
        Positions that seed a group, or groups where `enable_oversampling` draws more of them;
        None uses every position of a store (and stands as 512 in the legacy dictionary).
    n_images : int, optional
        Deprecated alias of `n_groups`.
    n_subsample : int, optional
        Patterns drawn from the scan before grouping.
    subsample_seed : int, optional
        Seed of that draw, of the grouping and of the initial weights.
    neighbor_count : int
        Nearest neighbours K that a group is drawn from.
    enable_oversampling : bool
        Whether more groups than positions may be drawn: different combinations of C patterns
        (K choose C).
    neighbor_pool_size : int, optional
        Neighbours that oversampling combines; None is `neighbor_count`.
    positions_provided : bool
        Whether the scan positions are known. They must be.
    probe_trainable : bool
        Whether the probe is corrected: by a joint refinement with the object before training, and
        by the optimiser during it.
    intensity_scale_trainable : bool
        Whether the scale between prediction and measurement is learned.
    output_dir : Path
        Folder for results.
    sequential_sampling : bool
        Whether the first positions in acquisition order seed the groups, instead of a draw.
    backend : str
        Backend that a workflow dispatches to; `ptychostream.train` itself is PyTorch.
    torch_loss_mode : str
        `poisson` uses the weights above; `mae` trains on amplitudes alone.
    torch_mae_pred_l2_match_target : bool
        Whether each predicted pattern is scaled to the measured energy before the amplitude error.
    gradient_clip_val : float, optional
        Limit for gradients; None is off.
    gradient_clip_algorithm : str
        What the limit applies to: the norm of all, each value, or the ratio to the weights (agc).
    optimizer : str
        The optimiser.
    momentum : float
        Momentum of `sgd`.
    weight_decay : float
        Weight decay of the optimiser.
    adam_beta1 : float
        Decay of the first moment.
    adam_beta2 : float
        Decay of the second moment.
    scheduler : str
        Learning rate schedule; `Default` keeps it constant for the CNN and uses one warm-up and
        cosine decay for `unrolled`.
    lr_warmup_epochs : int
        Epochs of linear warm-up (`WarmupCosine`).
    lr_min_ratio : float
        Last over first learning rate (`WarmupCosine`, `Exponential`). An exponential never
        reaches 0: there, 0 stands for 0.001.
    plateau_factor : float
        Factor at a plateau (`ReduceLROnPlateau`), above 0 and below 1.
    plateau_patience : int
        Epochs without progress that make a plateau.
    plateau_min_lr : float
        Least learning rate.
    plateau_threshold : float
        Progress that counts.
    stage_1_epochs : int
        First epochs, on the data loss only: the mean absolute error of normalised amplitudes,
        which knows no photon counts (0 is off).
    stage_2_epochs : int
        Epochs after those, of weighted transition to the physics loss: the weighted sum of
        likelihood and amplitude error that is used without stages.
    stage_3_epochs : int
        Last epochs of the run, on the physics loss with a lower learning rate. Epochs between
        stages 2 and 3 are on the physics loss with the full one.
    physics_weight_schedule : str
        How the weight of the physics loss rises over the epochs of stage 2.
    stage_3_lr_factor : float
        Factor on the learning rate in stage 3.
    validation_fraction : float
        Part of the scan, from 0 to below 1, that is held out for validation: one end of its
        longer side, so that no pattern of a training group is in a validation group.
    """

    model: ModelConfig = field(default_factory=ModelConfig)
    train_data_file: Path | None = None
    test_data_file: Path | None = None
    batch_size: int = 16
    nepochs: int = 50
    mae_weight: float = 0.0
    nll_weight: float = 1.0
    realspace_mae_weight: float = 0.0
    realspace_weight: float = 0.0
    amplitude_variation_weight: float = 0.0
    phase_variation_weight: float = 0.0
    overlap_weight: float | None = None
    nphotons: float = 1e9
    scale_contract_version: ScaleContractVersion | None = None
    measurement_domain: ScaleDomain | None = None
    n_groups: int | None = None
    n_images: int | None = None
    n_subsample: int | None = None
    subsample_seed: int | None = None
    neighbor_count: int = 4
    enable_oversampling: bool = False
    neighbor_pool_size: int | None = None
    positions_provided: bool = True
    probe_trainable: bool = False
    intensity_scale_trainable: bool = True
    output_dir: Path = Path("training_outputs")
    sequential_sampling: bool = False
    backend: Literal["tensorflow", "pytorch"] = "tensorflow"
    torch_loss_mode: Literal["poisson", "mae"] = "poisson"
    torch_mae_pred_l2_match_target: bool = False
    gradient_clip_val: float | None = None
    gradient_clip_algorithm: Literal["norm", "value", "agc"] = "norm"
    optimizer: Literal["adam", "adamw", "sgd"] = "adam"
    momentum: float = 0.9
    weight_decay: float = 0.0
    adam_beta1: float = 0.9
    adam_beta2: float = 0.999
    scheduler: Literal["Default", "Exponential", "WarmupCosine", "ReduceLROnPlateau"] = "Default"
    lr_warmup_epochs: int = 0
    lr_min_ratio: float = 0.1
    plateau_factor: float = 0.5
    plateau_patience: int = 2
    plateau_min_lr: float = 5e-5
    plateau_threshold: float = 0.0
    stage_1_epochs: int = 0
    stage_2_epochs: int = 0
    stage_3_epochs: int = 0
    physics_weight_schedule: Literal["linear", "cosine", "exponential"] = "cosine"
    stage_3_lr_factor: float = 0.1
    validation_fraction: float = 0.0

    def __post_init__(self) -> None:
        """Refuse choices that contradict each other.

        Raises
        ------
        ConfigurationError
            If a value is out of range, of another kind, or is not one of its choices.
        """
        take_plain_values(self)
        take_deprecated_n_images(self)
        check_choices(self)
        check_scaling_profile(self.scale_contract_version, self.measurement_domain)
        check_at_least(self, 1, "batch_size", "nepochs", "n_groups", "n_subsample")
        check_at_least(self, 1, "neighbor_pool_size")
        check_at_least(
            self, 0, "mae_weight", "nll_weight", "realspace_mae_weight", "realspace_weight"
        )
        check_at_least(self, 0, "amplitude_variation_weight", "phase_variation_weight")
        check_at_least(self, 0, "subsample_seed")
        check_at_least(self, 0, "weight_decay", "momentum", "lr_warmup_epochs", "lr_min_ratio")
        check_at_least(self, 0, "stage_1_epochs", "stage_2_epochs", "stage_3_epochs")
        check_at_least(self, 0, "plateau_patience", "plateau_min_lr", "plateau_threshold")
        check_at_least(self, 0, "nphotons", "gradient_clip_val", "plateau_factor", exclusive=True)
        check_at_least(self, 0, "stage_3_lr_factor", exclusive=True)
        if self.overlap_weight is not None and not 0 <= self.overlap_weight <= 1:
            raise ConfigurationError(f"overlap_weight={self.overlap_weight} must lie in [0, 1]")
        if not 0 <= self.validation_fraction < 1:
            raise ConfigurationError(
                f"validation_fraction={self.validation_fraction} must lie in [0, 1)"
            )
        if self.plateau_factor >= 1:
            raise ConfigurationError(f"plateau_factor={self.plateau_factor} must lie in (0, 1)")
        _check_stages(self)
        if self.backend == "tensorflow":
            _check_tensorflow_limits(self)
        for name in ("adam_beta1", "adam_beta2"):
            if not 0 <= getattr(self, name) < 1:
                raise ConfigurationError(f"{name}={getattr(self, name)} must lie in [0, 1)")
        if not (self.mae_weight or self.nll_weight or self.realspace_mae_weight):
            raise ConfigurationError(
                "mae_weight, nll_weight and realspace_mae_weight are all 0: nothing to learn from"
            )

    @property
    def overlap_share(self) -> float:
        """The value that `overlap_weight` stands for."""
        if self.overlap_weight is not None:
            return self.overlap_weight
        if self.model.architecture != "unrolled" or self.model.model_type == "supervised":
            return 0.0
        return 1.0 if self.model.gridsize == 1 else 0.25

    @property
    def num_held_out(self) -> int:
        """Neighbours per group whose patterns are predicted but not seen."""
        if not self.overlap_share:
            return 0
        # Lone patterns are noisy teachers: three cost little more than one.
        return 3 if self.model.gridsize == 1 else 1


def _check_stages(config: TrainingConfig) -> None:
    """Refuse stages that are longer than the run, or that have nothing to go over to."""
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

    Not at construction: existing callers make such configurations for the other backend.

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
    warnings.warn("n_images is deprecated; use n_groups", DeprecationWarning, stacklevel=4)
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
