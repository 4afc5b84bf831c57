"""Checkpoints of a run: how they are written, which is the last, and which run one belongs to."""

import dataclasses
import io
import logging
from pathlib import Path
from typing import Any

import torch
from lightning.fabric.plugins import TorchCheckpointIO
from typing_extensions import override

from ptychostream.config import PyTorchExecutionConfig, TrainingConfig
from ptychostream.errors import ConfigurationError, DataContractError, MissingFileError
from ptychostream.files import whole_file
from ptychostream.persistence.checkpoint import load_checkpoint
from ptychostream.persistence.open_archive import checkpoints_of

logger = logging.getLogger(__name__)

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
    """Refuse to continue from the checkpoint of another run."""
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
    """Find the checkpoint to go on from: a file, or the newest of a run that is whole."""
    place = Path(place)
    if place.is_file():
        load_checkpoint(place)
        return place
    found = checkpoints_of(place)
    last = place / "checkpoints" / "last.ckpt"
    if not found:
        raise MissingFileError(
            f"no checkpoint '{last}' to resume from; train without resuming, or with "
            "enable_checkpointing"
        )
    damaged: DataContractError | None = None
    for path in found:
        try:
            load_checkpoint(path)
        except DataContractError as error:
            logger.warning("%s; looking for another checkpoint", error)
            damaged = damaged or error
            continue
        if damaged is not None:
            logger.warning("going on from '%s', the newest checkpoint that is whole", path)
        return path
    assert damaged is not None
    raise damaged


class WholeCheckpoints(TorchCheckpointIO):
    """Writes each checkpoint beside the one that it replaces, then renames it.

    Lightning itself writes to the system's folder for temporary files and moves: from another
    file system, that overwrites the old checkpoint bit by bit.
    """

    @override
    def save_checkpoint(
        self, checkpoint: dict[str, Any], path: Any, storage_options: Any | None = None
    ) -> None:
        # In memory first: torch hides the error of a full disk behind one of its own.
        content = io.BytesIO()
        torch.save(checkpoint, content)
        path = Path(path)
        path.parent.mkdir(parents=True, exist_ok=True)
        with whole_file(path) as partial:
            partial.write_bytes(content.getbuffer())

    @override
    def load_checkpoint(self, path: Any, *_: Any, **__: Any) -> dict[str, Any]:
        return load_checkpoint(Path(path))
