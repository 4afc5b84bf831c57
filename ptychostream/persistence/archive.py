"""The archive `wts.h5.zip`: written atomically, read without executing anything from it."""

import logging
import zipfile
from pathlib import Path

from ptychostream.files import whole_file
from ptychostream.persistence.bundle import ModelBundle
from ptychostream.persistence.checkpoint import read_checkpoint
from ptychostream.persistence.entries import Members
from ptychostream.persistence.native import read_bundle, write_members
from ptychostream.persistence.open_archive import (
    ARCHIVE_NAME,
    backend_of,
    check_backend,
    find_archive,
    is_checkpoint,
    kind_of,
    open_archive,
    refuse_port,
)
from ptychostream.persistence.ptychopinn.legacy_params import Restore, legacy_params, restore_params
from ptychostream.persistence.ptychopinn.tensorflow_archive import read_tensorflow
from ptychostream.persistence.tracking import log_archive

logger = logging.getLogger(__name__)

#: A constant date, so that the same model gives the same bytes.
_DATE = (1980, 1, 1, 0, 0, 0)
_MODE = 0o644 << 16


def save_bundle(bundle: ModelBundle, directory: str | Path, *, mlflow: bool = False) -> Path:
    """Write a model's archive into a folder.

    The file appears under its name only when it is complete.

    Parameters
    ----------
    bundle : ModelBundle
        The model.
    directory : str or Path
        Folder, made if need be; an archive in it is replaced.
    mlflow : bool
        Whether the archive is logged to MLflow too, into the active run or else a new one. If that
        fails, a warning says why; the archive is written anyway.

    Returns
    -------
    Path
        The archive.
    """
    path = write_archive(bundle, Path(directory) / ARCHIVE_NAME)
    if mlflow:
        log_archive(path)
    return path


def write_archive(bundle: ModelBundle, path: Path) -> Path:
    """Write a model's archive under a name of its own.

    Parameters
    ----------
    path : Path
        The archive; its folder is made if need be, and what is there is replaced.
    """
    members, comment = write_members(bundle)
    path.parent.mkdir(parents=True, exist_ok=True)
    with whole_file(path) as partial, zipfile.ZipFile(partial, "w") as archive:
        archive.comment = comment
        for name, data in members.items():
            entry = zipfile.ZipInfo(name, _DATE)
            entry.external_attr = _MODE
            # Weights hardly compress.
            packed = not name.endswith(".safetensors")
            entry.compress_type = zipfile.ZIP_DEFLATED if packed else zipfile.ZIP_STORED
            archive.writestr(entry, data)
    return path


def load_bundle(
    directory: str | Path, *, backend: str | None = None, restore: Restore = "legacy"
) -> ModelBundle:
    """Load a model of any backend; nothing in the file is executed.

    Archives of PtychoPINN are read without TensorFlow; what differs then is logged as a warning
    and recorded in `provenance`.

    Parameters
    ----------
    directory : str or Path
        Folder that holds `wts.h5.zip`, the archive itself, a zip file of such a folder, or a
        Lightning checkpoint (`.ckpt`) of a training run.
    backend : str, optional
        The backend that it must belong to, `pytorch` or `tensorflow`; None takes either.
    restore : str or None
        Where the model's legacy dictionary goes: `legacy` is `ptychostream.legacy.params.cfg`,
        `ptycho` the installed TensorFlow package's as well, None is nowhere.

    Returns
    -------
    ModelBundle
        Everything that inference needs.

    Raises
    ------
    MissingFileError
        If there is no archive.
    DataContractError
        If it is damaged, belongs to another backend or a newer version, or breaks a limit that
        honest archives keep; the message names the member.
    """
    path = find_archive(directory)
    if is_checkpoint(path):
        check_backend(f"'{path}'", "pytorch", backend)
        bundle = read_checkpoint(path)
    else:
        with open_archive(path) as members:
            bundle = _read(members, backend)
    restore_params(legacy_params(bundle), restore)
    return bundle


def _read(members: Members, backend: str | None) -> ModelBundle:
    kind = kind_of(members)
    refuse_port(members.origin, kind)
    check_backend(members.origin, backend_of(kind), backend)
    if kind == "ptychostream":
        return read_bundle(members)
    return read_tensorflow(members)
