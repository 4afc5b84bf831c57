"""What is reconstructed, from which data, with which model."""

from dataclasses import field
from pathlib import Path
from typing import Literal

from pydantic import NonNegativeInt, PositiveInt

from ptychostream.config.fields import AnyPath, configuration
from ptychostream.config.model import ModelConfig
from ptychostream.config.training import take_deprecated_n_images


@configuration
class InferenceConfig:
    """What is reconstructed, from which data, with which model."""

    model: ModelConfig = field(default_factory=ModelConfig)
    """The network; the archive's own configuration takes its place where one is loaded."""
    model_path: AnyPath | None = None
    """Folder that holds the archive, or the archive itself."""
    test_data_file: AnyPath | None = None
    """Scan or store to reconstruct."""
    n_groups: PositiveInt | None = None
    """Number of groups, each around a position; None is one around every position."""
    n_images: PositiveInt | None = None
    """Deprecated alias of `n_groups`."""
    n_subsample: PositiveInt | None = None
    """Patterns drawn from the scan before grouping."""
    subsample_seed: NonNegativeInt | None = None
    """Seed of that draw and of the grouping."""
    neighbor_count: NonNegativeInt = 4
    """Nearest neighbours K that a group is drawn from."""
    enable_oversampling: bool = False
    """Whether more groups than positions may be drawn (K choose C)."""
    neighbor_pool_size: PositiveInt | None = None
    """Neighbours that oversampling combines; None is `neighbor_count`."""
    debug: bool = False
    """Whether to log every step."""
    output_dir: AnyPath = Path("inference_outputs")
    """Folder for results."""
    backend: Literal["tensorflow", "pytorch"] = "tensorflow"
    """Backend that a workflow dispatches to."""

    def __post_init__(self) -> None:
        take_deprecated_n_images(self)
