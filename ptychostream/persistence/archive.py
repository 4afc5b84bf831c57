"""The archive `wts.h5.zip`: written atomically, read without executing anything from it."""

import logging
import zipfile
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from ptychostream.errors import DataContractError
from ptychostream.files import whole_file
from ptychostream.persistence.bundle import ModelBundle
from ptychostream.persistence.checkpoint import read_checkpoint
from ptychostream.persistence.entries import Members
from ptychostream.persistence.native import read_bundle, write_members
from ptychostream.persistence.open_archive import (
    ARCHIVE_NAME,
    Kind,
    backend_of,
    check_backend,
    find_archive,
    is_checkpoint,
    kind_of,
    open_archive,
)
from ptychostream.persistence.ptychopinn.legacy_params import Restore, legacy_params, restore_params
from ptychostream.persistence.ptychopinn.tensorflow_archive import read_tensorflow
from ptychostream.persistence.ptychopinn.torch_archive import read_port
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
    directory: str | Path,
    *,
    backend: str | None = None,
    restore: Restore = "legacy",
    probe_guess: NDArray[np.complex64] | None = None,
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
    probe_guess : (N, N) or (P, N, N) complex64, optional
        The probe that the model was trained with, for an archive of PtychoPINN's PyTorch port,
        which holds none; only there.

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
        honest archives keep; the message names the member. Also if it holds no probe and none is
        given, or holds one and another is given.
    """
    path = find_archive(directory)
    if is_checkpoint(path):
        check_backend(f"'{path}'", "pytorch", backend)
        _check_probe(f"'{path}'", "ptychostream", probe_guess)
        bundle = read_checkpoint(path)
    else:
        with open_archive(path) as members:
            bundle = _read(members, backend, probe_guess)
    restore_params(legacy_params(bundle), restore)
    return bundle


def _read(
    members: Members, backend: str | None, probe_guess: NDArray[np.complex64] | None
) -> ModelBundle:
    kind = kind_of(members)
    check_backend(members.origin, backend_of(kind), backend)
    _check_probe(members.origin, kind, probe_guess)
    if probe_guess is not None:
        return read_port(members, probe_guess)
    return read_bundle(members) if kind == "ptychostream" else read_tensorflow(members)


def _check_probe(origin: str, kind: Kind, probe_guess: NDArray[np.complex64] | None) -> None:
    """Check that a probe is given just where the file has none."""
    if kind == "ptychopinn-torch" and probe_guess is None:
        raise DataContractError(
            f"{origin} is an archive of PtychoPINN's own PyTorch backend, which holds no probe; "
            "give the one that it was trained with: `ptychostream convert ARCHIVE NEW.zip --probe "
            "SCAN`, or load_bundle(..., probe_guess=...)"
        )
    if kind != "ptychopinn-torch" and probe_guess is not None:
        ours = "; it is an archive of ours, which needs no conversion"
        raise DataContractError(
            f"{origin} holds its probe; leave out --probe (in Python: probe_guess)"
            f"{ours if kind == 'ptychostream' else ''}"
        )
