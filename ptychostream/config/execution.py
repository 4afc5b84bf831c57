"""Where and how fast a PyTorch run executes."""

from collections.abc import Mapping
from typing import Annotated, Literal

from pydantic import Field, NonNegativeInt, PositiveFloat, PositiveInt

from ptychostream.config.fields import DeviceCount, MemoryAmount, configuration
from ptychostream.errors import ConfigurationError


@configuration
class PyTorchExecutionConfig:
    """Where and how fast a PyTorch run executes; never mirrored into the legacy dictionary."""

    accelerator: Literal["auto", "cpu", "gpu", "cuda", "mps"] = "auto"
    """Kind of device."""
    devices: DeviceCount = 1
    """Number of devices, and processes, on each node; `auto` counts this machine's."""
    num_nodes: PositiveInt = 1
    """Number of nodes. For more than one, start the program on each with torchrun or srun."""
    strategy: Literal["auto", "ddp", "dp", "ddp_find_unused_parameters_true"] = "auto"
    """How several devices share the work. `ddp` (and `auto`): a process for each. `dp`, for a
    reconstruction only: one process divides each batch. Others are Lightning's, for training.
    """
    deterministic: Literal[True, False, "warn"] = True
    """Whether only deterministic algorithms are used."""
    precision: Literal["32-true", "16-mixed", "bf16-mixed"] = "32-true"
    """Precision of the network's convolutions; probes, waves and losses are always float32.
    `16-mixed` needs a GPU.
    """
    gradient_clip_val: PositiveFloat | None = None
    """Takes the place of the training configuration's value when given."""
    gradient_clip_algorithm: Literal["norm", "value", "agc"] | None = None
    """Likewise."""
    accum_steps: PositiveInt = 1
    """Batches whose mean gradient makes a step of the optimiser; what an epoch's last, shorter
    window adds up is divided by the same number.
    """
    num_workers: NonNegativeInt = 0
    """Threads that decode windows of the store; 0 chooses a number."""
    pin_memory: bool = False
    """Whether host memory is page-locked for transfers to a GPU."""
    persistent_workers: bool = False
    """Refused if True: the loader has threads, and no worker processes to keep."""
    prefetch_factor: PositiveInt | None = None
    """Windows of the store decoded ahead of the one that is served; None is one. More windows are
    smaller, within the same memory budget.
    """
    learning_rate: PositiveFloat = 1e-3
    """First learning rate."""
    scheduler: Literal["Default", "Exponential", "WarmupCosine", "ReduceLROnPlateau"] | None = None
    """Takes the place of the training configuration's value when given."""
    enable_progress_bar: bool = False
    """Whether a bar shows progress."""
    enable_checkpointing: bool = True
    """Whether checkpoints are written into the output folder."""
    checkpoint_save_top_k: Annotated[int, Field(ge=-1)] = 1
    """Best checkpoints that are kept; -1 keeps all."""
    checkpoint_monitor_metric: Literal["val_loss", "train_loss"] = "val_loss"
    """Quantity that decides which is best; the training loss where there is no validation."""
    checkpoint_mode: Literal["min", "max"] = "min"
    """Whether a low or a high value is best."""
    early_stop_patience: PositiveInt = 100
    """Epochs without progress that end a run."""
    logger_backend: Literal["csv", "tensorboard", "mlflow"] | None = "csv"
    """Where losses are logged, besides the result itself."""
    recon_log_every_n_epochs: PositiveInt | None = None
    """Epochs between logged reconstructions."""
    recon_log_num_patches: PositiveInt = 4
    """Patches in each, spread over the groups."""
    recon_log_fixed_indices: list[int] | None = None
    """Rows of the group table whose patches are logged instead."""
    recon_log_stitch: bool = False
    """Whether the stitched object is logged too."""
    recon_log_max_stitch_samples: PositiveInt | None = None
    """Most groups that are stitched for it, spread over the scan; None is all."""
    inference_batch_size: PositiveInt | None = None
    """Groups per batch at inference; None chooses a number."""
    middle_trim: NonNegativeInt = 0
    """Edge of the central window of a patch that is stitched, in pixels; 0 is the whole patch."""
    pad_eval: bool = False
    """Whether the object is made larger at inference where patches reach beyond its grid."""
    memory_budget: MemoryAmount = "1 GiB"
    """Memory that the loader's windows may take, with a unit; without one it is in bytes."""


def check_execution_type(given: object) -> None:
    """Refuse what is neither a PyTorchExecutionConfig nor None.

    Raises
    ------
    ConfigurationError
        If it is something else; of a mapping the message says how it is made into one.
    """
    if given is None or isinstance(given, PyTorchExecutionConfig):
        return
    seen = f"a {type(given).__name__}"
    advice = "pass a PyTorchExecutionConfig(...)"
    if isinstance(given, Mapping):
        values = ", ".join(f"{name}={value!r}" for name, value in given.items())
        advice = f"pass PyTorchExecutionConfig({values})"
    raise ConfigurationError(f"the execution configuration is {seen}; {advice}")
