"""What is reconstructed, from which data, with which model."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from ptychostream.config.checks import check_at_least, check_choices, take_plain_values
from ptychostream.config.model import ModelConfig
from ptychostream.config.training import take_deprecated_n_images


@dataclass(frozen=True, kw_only=True)
class InferenceConfig:
    """What is reconstructed, from which data, with which model.

    Attributes
    ----------
    model : ModelConfig
        The network; the archive's own configuration takes its place where one is loaded.
    model_path : Path, optional
        Folder that holds the archive, or the archive itself.
    test_data_file : Path, optional
        Scan or store to reconstruct.
    n_groups : int, optional
        Positions that seed a group; None is every position.
    n_images : int, optional
        Deprecated alias of `n_groups`.
    n_subsample : int, optional
        Patterns drawn from the scan before grouping.
    subsample_seed : int, optional
        Seed of that draw and of the grouping.
    neighbor_count : int
        Nearest neighbours K that a group is drawn from.
    enable_oversampling : bool
        Whether more groups than positions may be drawn (K choose C).
    neighbor_pool_size : int, optional
        Neighbours that oversampling combines; None is `neighbor_count`.
    debug : bool
        Whether to log every step.
    output_dir : Path
        Folder for results.
    backend : str
        Backend that a workflow dispatches to.
    """

    model: ModelConfig = field(default_factory=ModelConfig)
    model_path: Path | None = None
    test_data_file: Path | None = None
    n_groups: int | None = None
    n_images: int | None = None
    n_subsample: int | None = None
    subsample_seed: int | None = None
    neighbor_count: int = 4
    enable_oversampling: bool = False
    neighbor_pool_size: int | None = None
    debug: bool = False
    output_dir: Path = Path("inference_outputs")
    backend: Literal["tensorflow", "pytorch"] = "tensorflow"

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
        check_at_least(self, 1, "n_groups", "n_subsample", "neighbor_pool_size")
