"""The archive `wts.h5.zip`: written atomically, read without executing anything from it.

Our own source of truth is JSON and safetensors; every member's digest stands in the JSON index.
"""

import hashlib
import io
import json
import os
import pickle
import stat
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import torch

from ptychostream import __version__
from ptychostream.config import TrainingConfig, from_mapping, to_mapping
from ptychostream.errors import ConfigurationError, DataContractError, MissingFileError
from ptychostream.models.pinn import PtychoPINN
from ptychostream.persistence.bundle import ModelBundle

#: Name of the archive in its folder, fixed by the contract.
ARCHIVE_NAME = "wts.h5.zip"
#: Version of our members; a newer major version is refused.
ARCHIVE_VERSION = (1, 0)

_INDEX = "ptychostream.json"
_WEIGHTS = "diffraction_to_obj/weights.safetensors"
_MANIFEST = "manifest.dill"

#: Limits that no honest archive comes near: members, bytes in all, and compression.
_MAX_MEMBERS = 64
_MAX_BYTES = 4 * 2**30
_MAX_RATIO = 200


def save_bundle(bundle: ModelBundle, directory: str | Path) -> Path:
    """Write a model's archive into a folder.

    The file appears under its name only when it is complete.

    Parameters
    ----------
    bundle : ModelBundle
        The model.
    directory : str or Path
        Folder, made if need be; an archive in it is replaced.

    Returns
    -------
    Path
        The archive.
    """
    from safetensors.torch import save

    directory = Path(directory)
    directory.mkdir(parents=True, exist_ok=True)
    state = {name: value.contiguous() for name, value in bundle.model.state_dict().items()}
    guess = torch.view_as_real(torch.as_tensor(bundle.probe_guess)).contiguous()
    weights = save({**{f"model.{k}": v for k, v in state.items()}, "probe_guess": guess})
    # For readers of the existing archives: a plain dictionary, as they expect it.
    manifest = pickle.dumps(
        {
            "models": ["autoencoder", "diffraction_to_obj"],
            "version": f"{ARCHIVE_VERSION[0]}.{ARCHIVE_VERSION[1]}",
            "backend": "pytorch",
        },
        protocol=2,
    )
    members = {_WEIGHTS: weights, _MANIFEST: manifest}
    index = {
        "format": "ptychostream model",
        "version": list(ARCHIVE_VERSION),
        "written_by": f"ptychostream {__version__}",
        "backend": "pytorch",
        "config": to_mapping(bundle.config),
        "intensity_scale": bundle.intensity_scale,
        "history": bundle.history,
        "parameters": sum(p.numel() for p in bundle.model.parameters()),
        "sha256": {name: hashlib.sha256(data).hexdigest() for name, data in members.items()},
    }
    members[_INDEX] = json.dumps(index, indent=1).encode()
    path = directory / ARCHIVE_NAME
    partial = directory / f".{ARCHIVE_NAME}.{os.getpid()}.partial"
    try:
        with zipfile.ZipFile(partial, "w", zipfile.ZIP_DEFLATED) as archive:
            for name in (_MANIFEST, _INDEX, _WEIGHTS):
                archive.writestr(name, members[name])
        partial.replace(path)
    finally:
        partial.unlink(missing_ok=True)
    return path


def load_bundle(directory: str | Path) -> ModelBundle:
    """Load a model from its archive.

    Parameters
    ----------
    directory : str or Path
        Folder that holds `wts.h5.zip`, or the archive itself.

    Returns
    -------
    ModelBundle
        Everything that inference needs; no global state is changed.

    Raises
    ------
    MissingFileError
        If there is no archive.
    DataContractError
        If it is damaged, was made by another backend or a newer version, or breaks a limit that
        honest archives keep; the message names the member.
    """
    from safetensors.torch import load

    path = find_archive(directory)
    index = read_index(path)
    with zipfile.ZipFile(path) as archive:
        data = _read_member(path, archive, _WEIGHTS)
    if hashlib.sha256(data).hexdigest() != index["sha256"].get(_WEIGHTS):
        raise DataContractError(f"'{path}': member '{_WEIGHTS}' fails its checksum")
    tensors = load(data)
    try:
        config = from_mapping(TrainingConfig, index["config"], origin=f"'{path}'")
    except ConfigurationError as error:
        raise DataContractError(f"{error}; is the archive from a newer version?") from error
    guess = torch.view_as_complex(tensors.pop("probe_guess")).numpy()
    model = PtychoPINN(
        config.model,
        guess,
        probe_trainable=config.probe_trainable,
        intensity_scale_trainable=config.intensity_scale_trainable,
    )
    state = {name.removeprefix("model."): value for name, value in tensors.items()}
    try:
        model.load_state_dict(state, strict=True)
    except RuntimeError as error:
        raise DataContractError(f"'{path}': member '{_WEIGHTS}' does not fit: {error}") from error
    return ModelBundle(
        model=model.eval(),
        config=config,
        intensity_scale=float(index["intensity_scale"]),
        probe_guess=np.asarray(guess),
        history=index["history"],
    )


def find_archive(directory: str | Path) -> Path:
    """Find the archive in a folder.

    Parameters
    ----------
    directory : str or Path
        Folder, or the archive itself.

    Returns
    -------
    Path
        The archive.

    Raises
    ------
    MissingFileError
        If there is none.
    """
    path = Path(directory)
    if path.is_dir():
        path = path / ARCHIVE_NAME
    if not path.is_file():
        raise MissingFileError(f"no model archive '{path}'")
    return path


def read_index(path: Path) -> dict[str, Any]:
    """Read what an archive says of itself, without its weights.

    Parameters
    ----------
    path : Path
        The archive.

    Returns
    -------
    dict
        Version, backend, configuration, history and digests.

    Raises
    ------
    DataContractError
        If it is no archive of ours, is damaged, or breaks a limit.
    """
    try:
        with zipfile.ZipFile(path) as archive:
            _check_entries(path, archive)
            if _INDEX not in archive.namelist():
                backend = "tensorflow" if _MANIFEST in archive.namelist() else "unknown"
                raise DataContractError(
                    f"'{path}' is an archive of the {backend} backend; this reads archives of "
                    "the pytorch backend"
                )
            index: dict[str, Any] = json.loads(_read_member(path, archive, _INDEX))
    except (zipfile.BadZipFile, json.JSONDecodeError, UnicodeDecodeError) as error:
        raise DataContractError(f"'{path}' is not a readable archive: {error}") from error
    keys = {"version", "backend", "config", "intensity_scale", "history", "sha256"}
    if not isinstance(index, dict) or not keys <= set(index):
        raise DataContractError(f"'{path}': member '{_INDEX}' lacks some of {sorted(keys)}")
    if index["version"][0] > ARCHIVE_VERSION[0]:
        raise DataContractError(
            f"'{path}' has format version {index['version']}; this version reads "
            f"{ARCHIVE_VERSION[0]}.x: update ptychostream"
        )
    return index


def _check_entries(path: Path, archive: zipfile.ZipFile) -> None:
    entries = archive.infolist()
    if len(entries) > _MAX_MEMBERS:
        raise DataContractError(f"'{path}' has {len(entries)} members, expected a few")
    names = set()
    for entry in entries:
        parts = Path(entry.filename).parts
        link = stat.S_ISLNK(entry.external_attr >> 16)
        unsafe = entry.filename.startswith("/") or ".." in parts or "\\" in entry.filename or link
        if unsafe or entry.filename in names:
            raise DataContractError(f"'{path}': member '{entry.filename}' has an unsafe name")
        names.add(entry.filename)
        if entry.file_size > _MAX_RATIO * max(entry.compress_size, 1):
            raise DataContractError(f"'{path}': member '{entry.filename}' is compressed absurdly")
    if sum(entry.file_size for entry in entries) > _MAX_BYTES:
        raise DataContractError(f"'{path}' would take over {_MAX_BYTES} bytes")


def _read_member(path: Path, archive: zipfile.ZipFile, name: str) -> bytes:
    buffer = io.BytesIO()
    try:
        limit = archive.getinfo(name).file_size
        with archive.open(name) as member:
            while block := member.read(2**20):
                buffer.write(block)
                if buffer.tell() > limit:
                    raise DataContractError(f"'{path}': member '{name}' is larger than it says")
    except (zipfile.BadZipFile, KeyError, EOFError, OSError) as error:
        raise DataContractError(f"'{path}': member '{name}' can't be read: {error}") from error
    return buffer.getvalue()
