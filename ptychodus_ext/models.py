"""Which model a reconstruction uses, and whether it fits the backend that is set."""

from pathlib import Path
from typing import Protocol

from ptychostream.errors import DataContractError, MissingFileError
from ptychostream.persistence.open_archive import backend_of_file

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
    """Refuse a file that the chosen backend can't use.

    Raises
    ------
    MissingFileError
        If there is no such file.
    DataContractError
        If it is no archive, or another backend made it; the message names both.
    """
    if not path.is_file():
        raise MissingFileError(f"no model archive '{path}'")
    made_by = backend_of_file(path)
    if made_by != backend:
        raise DataContractError(
            f"'{path}' is a model of the {made_by} backend but [PtychoStreamModel] Backend is "
            f"{backend}; set it to {made_by}, or load another model"
        )
