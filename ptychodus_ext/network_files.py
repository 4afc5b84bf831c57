"""Files of a network: the model to load, and the data to train on."""

import logging
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from ptychostream.errors import DataContractError, MissingFileError
from ptychostream.persistence.open_archive import backend_of_file

logger = logging.getLogger("ptychostream.ptychodus")


@dataclass(frozen=True)
class TrainingFiles:
    """The files of a training.

    `test`: scan file or store that the loss is watched on.
    """

    train: list[Path]
    test: Path | None = None

    def __str__(self) -> str:
        held_out = f", validated on '{self.test}'" if self.test else ""
        return ", ".join(f"'{path}'" for path in self.train) + held_out


def find_training_files(folder: Path, store: Path | None) -> TrainingFiles:
    """Choose the data to train on.

    `folder`: searched first, for stores (`*.zarr`), then for `train_data.npz`, then for any other
        `*.npz`. `test_data.*` is what the loss is watched on.
    """
    for suffix, test_name in ((".zarr", "test_data.zarr"), (".npz", "test_data.npz")):
        test = folder / test_name
        found = sorted(p for p in folder.glob(f"*{suffix}") if p != test and p.name[0] != ".")
        named = folder / f"train_data{suffix}"
        train = [named] if named in found else found
        if not train:
            continue
        if suffix == ".zarr" and len(train) > 1:
            raise DataContractError(
                f"'{folder}' holds {len(train)} stores ({', '.join(p.name for p in train)}); name "
                "one train_data.zarr, or build one store of all scans"
            )
        if left := [path.name for path in found if path not in train]:
            logger.warning("not trained on: %s", ", ".join(left))
        return TrainingFiles(train, test if test.exists() else None)
    if store is not None:
        return TrainingFiles([store])
    raise MissingFileError(
        f"'{folder}' holds no train_data.npz, no other *.npz and no *.zarr; export training data "
        "into it, or set [PtychoStreamData] StorePath"
    )


#: The archive's name inside the archive that ptychodus's own library makes of a folder.
INNER_ARCHIVE = "wts.h5.zip"


class HasModelPath(Protocol):
    """Settings with a path to a model."""

    @property
    def model_path(self) -> Path | None:
        """The archive, None where none is set."""


def find_model(settings: HasModelPath) -> Path | None:
    """Find the model that the settings name."""
    path = settings.model_path
    if path is None:
        return None
    candidates = [path / "model.zip", path / INNER_ARCHIVE] if path.is_dir() else [path]
    return next((candidate for candidate in candidates if candidate.is_file()), None)


def check_model(path: Path, backend: str) -> None:
    """Refuse a file that the chosen backend can't use."""
    if not path.is_file():
        raise MissingFileError(f"no model archive '{path}'")
    made_by = backend_of_file(path)
    if made_by != backend:
        raise DataContractError(
            f"'{path}' is a model of the {made_by} backend but [PtychoStreamModel] Backend is "
            f"{backend}; set it to {made_by}, or load another model"
        )
