"""Which run a checkpoint belongs to, and which checkpoint is the last."""

import dataclasses
from pathlib import Path
from typing import Any

from ptychostream.config import PyTorchExecutionConfig, TrainingConfig
from ptychostream.errors import ConfigurationError, MissingFileError

#: Fields that may differ between a run and the one that continues it.
_FREE = {"nepochs", "output_dir", "train_data_file", "test_data_file", "n_images", "backend"}


#: Options of the execution that must not change within a run.
_KEPT = (
    "learning_rate",
    "scheduler",
    "accum_steps",
    "precision",
    "gradient_clip_val",
    "gradient_clip_algorithm",
    "early_stop_patience",
)


def describe_run(
    config: TrainingConfig, execution: PyTorchExecutionConfig, data_name: str
) -> dict[str, Any]:
    """Describe configuration and data of a run, for its checkpoints."""
    values = dataclasses.asdict(config)
    model = {f"model.{name}": value for name, value in values.pop("model").items()}
    return {
        "config": model | {name: value for name, value in values.items() if name not in _FREE},
        "execution": {name: getattr(execution, name) for name in _KEPT},
        "data": data_name,
    }


def check_same_run(mine: dict[str, Any], checkpoint: dict[str, Any], nepochs: int) -> None:
    """Refuse to continue from the checkpoint of another run.

    Raises
    ------
    ConfigurationError
        If configuration or data differ, or more epochs are done than are planned.
    """
    run = checkpoint.get("run", {"config": {}, "data": ""})
    execution = run.get("execution", mine["execution"])
    pairs = [(n, run["config"].get(n), value) for n, value in mine["config"].items()]
    pairs += [(n, execution.get(n), value) for n, value in mine["execution"].items()]
    for name, before, value in pairs:
        if before != value:
            raise ConfigurationError(
                f"the checkpoint was made with {name}={before!r}, this run has {value!r}; resume "
                "with the same configuration"
            )
    if checkpoint.get("epoch", 0) > nepochs:
        raise ConfigurationError(
            f"the checkpoint has {checkpoint['epoch']} epochs behind it, but nepochs={nepochs}: "
            "take as many at least"
        )
    if run["data"] != mine["data"]:
        raise ConfigurationError(
            "the checkpoint was made with other data; resume with the same store"
        )


def find_checkpoint(place: str | Path) -> Path:
    """Return the checkpoint to continue from.

    Raises
    ------
    MissingFileError
        If there is none.
    """
    place = Path(place)
    found = place if place.is_file() else place / "checkpoints" / "last.ckpt"
    if not found.is_file():
        raise MissingFileError(
            f"no checkpoint '{found}' to resume from; train without resuming, or with "
            "enable_checkpointing"
        )
    return found
