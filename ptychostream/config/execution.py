"""Where and how fast a PyTorch run executes."""

from dataclasses import dataclass
from typing import Literal

from ptychostream.config.checks import (
    check_at_least,
    check_choices,
    check_memory,
    plain_value,
    take_plain_values,
)
from ptychostream.errors import ConfigurationError


@dataclass(frozen=True, kw_only=True)
class PyTorchExecutionConfig:
    """Where and how fast a PyTorch run executes; never mirrored into the legacy dictionary.

    Attributes
    ----------
    accelerator : str
        Kind of device.
    devices : int
        Number of devices, and processes, on each node.
    num_nodes : int
        Number of nodes. For more than one, start the program on each with torchrun or srun.
    strategy : str
        How several devices share the work. `ddp` (and `auto`): a process for each. `dp`, for a
        reconstruction only: one process divides each batch. Others are Lightning's, for training.
    deterministic : bool or 'warn'
        Whether only deterministic algorithms are used.
    precision : str
        Precision of the network's convolutions; probes, waves and losses are always float32.
        `16-mixed` needs a GPU.
    gradient_clip_val : float, optional
        Takes the place of the training configuration's value when given.
    gradient_clip_algorithm : str, optional
        Likewise.
    accum_steps : int
        Batches whose mean gradient makes a step of the optimiser; what an epoch's last, shorter
        window adds up is divided by the same number.
    num_workers : int
        Threads that decode windows of the store; 0 chooses a number.
    pin_memory : bool
        Whether host memory is page-locked for transfers to a GPU.
    persistent_workers : bool
        Refused if True: the loader has threads, and no worker processes to keep.
    prefetch_factor : int, optional
        Windows of the store decoded ahead of the one that is served; None is one. More windows
        are smaller, within the same memory budget.
    learning_rate : float
        First learning rate.
    scheduler : str, optional
        Takes the place of the training configuration's value when given.
    enable_progress_bar : bool
        Whether a bar shows progress.
    enable_checkpointing : bool
        Whether checkpoints are written into the output folder.
    checkpoint_save_top_k : int
        Best checkpoints that are kept; -1 keeps all.
    checkpoint_monitor_metric : str
        Quantity that decides which is best; the training loss where there is no validation.
    checkpoint_mode : str
        Whether a low or a high value is best.
    early_stop_patience : int
        Epochs without progress that end a run.
    logger_backend : str, optional
        Where losses are logged, besides the result itself.
    recon_log_every_n_epochs : int, optional
        Epochs between logged reconstructions.
    recon_log_num_patches : int
        Patches in each, spread over the groups.
    recon_log_fixed_indices : list of int, optional
        Rows of the group table whose patches are logged instead.
    recon_log_stitch : bool
        Whether the stitched object is logged too.
    recon_log_max_stitch_samples : int, optional
        Most groups that are stitched for it, spread over the scan; None is all.
    inference_batch_size : int, optional
        Groups per batch at inference; None chooses a number.
    middle_trim : int
        Edge of the central window of a patch that is stitched, in pixels; 0 is the whole patch.
    pad_eval : bool
        Whether the object is made larger at inference where patches reach beyond its grid.
    memory_budget : str
        Memory that the loader's windows may take, with a unit; without one it is in bytes.
    """

    accelerator: Literal["auto", "cpu", "gpu", "cuda", "mps"] = "auto"
    devices: int = 1
    num_nodes: int = 1
    strategy: Literal["auto", "ddp", "dp", "ddp_find_unused_parameters_true"] = "auto"
    deterministic: Literal[True, False, "warn"] = True
    precision: Literal["32-true", "16-mixed", "bf16-mixed"] = "32-true"
    gradient_clip_val: float | None = None
    gradient_clip_algorithm: Literal["norm", "value", "agc"] | None = None
    accum_steps: int = 1
    num_workers: int = 0
    pin_memory: bool = False
    persistent_workers: bool = False
    prefetch_factor: int | None = None
    learning_rate: float = 1e-3
    scheduler: Literal["Default", "Exponential", "WarmupCosine", "ReduceLROnPlateau"] | None = None
    enable_progress_bar: bool = False
    enable_checkpointing: bool = True
    checkpoint_save_top_k: int = 1
    checkpoint_monitor_metric: Literal["val_loss", "train_loss"] = "val_loss"
    checkpoint_mode: Literal["min", "max"] = "min"
    early_stop_patience: int = 100
    logger_backend: Literal["csv", "tensorboard", "mlflow"] | None = "csv"
    recon_log_every_n_epochs: int | None = None
    recon_log_num_patches: int = 4
    recon_log_fixed_indices: list[int] | None = None
    recon_log_stitch: bool = False
    recon_log_max_stitch_samples: int | None = None
    inference_batch_size: int | None = None
    middle_trim: int = 0
    pad_eval: bool = False
    memory_budget: str = "1 GiB"

    def __post_init__(self) -> None:
        """Refuse values that no run can execute.

        Raises
        ------
        ConfigurationError
            If a value is out of range, of another kind, or is not one of its choices.
        """
        budget = plain_value(self.memory_budget)
        if isinstance(budget, int) and not isinstance(budget, bool):
            object.__setattr__(self, "memory_budget", str(budget))
        take_plain_values(self)
        check_choices(self)
        check_memory(self, "memory_budget")
        check_at_least(self, 1, "devices", "num_nodes", "accum_steps", "inference_batch_size")
        check_at_least(
            self, 1, "prefetch_factor", "early_stop_patience", "recon_log_every_n_epochs"
        )
        check_at_least(self, 0, "num_workers", "middle_trim")
        check_at_least(self, 1, "recon_log_num_patches", "recon_log_max_stitch_samples")
        check_at_least(self, 0, "learning_rate", "gradient_clip_val", exclusive=True)
        if self.checkpoint_save_top_k < -1:
            raise ConfigurationError(
                f"checkpoint_save_top_k={self.checkpoint_save_top_k} must be -1 (all) or more"
            )
