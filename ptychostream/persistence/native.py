"""Our own members of an archive: JSON and safetensors, and a digest of each.

Pickled dictionaries are written beside them, for readers of the existing archives.
"""

import hashlib
import json
import math
import pickle
import platform
from importlib import metadata
from typing import Any

import numpy as np
import torch

from ptychostream import __version__
from ptychostream.config import TrainingConfig, from_mapping, to_mapping
from ptychostream.errors import ConfigurationError, DataContractError
from ptychostream.persistence.bundle import ModelBundle
from ptychostream.persistence.legacy_params import legacy_params
from ptychostream.persistence.members import Members
from ptychostream.persistence.opening import (
    DESCRIPTION_BYTES,
    INDEX,
    MANIFEST,
    read_dictionary,
    read_manifest,
)
from ptychostream.persistence.rebuild import build_model, check_shapes

#: Version of our members; a newer major version is refused, a minor version only adds.
ARCHIVE_VERSION = (1, 1)

WEIGHTS = "diffraction_to_obj/weights.safetensors"
#: The two models of the contract. They share their weights: one stops where the other goes on.
MODELS = {
    "autoencoder": ["object", "amplitude", "intensity"],
    "diffraction_to_obj": ["object"],
}
_PROBE = "probe_guess"
_DIGEST = "sha256:"
#: Longest header of a weights file: a line for each weight.
_HEADER_BYTES = 2**22
#: Bytes of a number, by the names that safetensors has for types.
_BYTES = {"F32": 4, "F64": 8, "F16": 2, "BF16": 2, "I64": 8, "I32": 4, "U8": 1, "BOOL": 1}


def write_members(bundle: ModelBundle) -> tuple[dict[str, bytes], bytes]:
    """Turn a model into members of an archive.

    Parameters
    ----------
    bundle : ModelBundle
        The model.

    Returns
    -------
    members : dict
        Content of each member by name, in the order in which they are best written.
    comment : bytes
        For the archive: the digest of the index, which holds those of all others.
    """
    from safetensors.torch import save

    state = {
        f"model.{name}": value.detach().cpu().contiguous()
        for name, value in bundle.model.state_dict().items()
    }
    guess = torch.view_as_real(torch.as_tensor(bundle.probe_guess)).contiguous()
    manifest = {
        "models": list(MODELS),
        "version": ".".join(map(str, ARCHIVE_VERSION)),
        "backend": "pytorch",
    }
    # Protocol 2 is the one that every existing reader knows.
    params = pickle.dumps(legacy_params(bundle), protocol=2)
    members = {
        MANIFEST: pickle.dumps(manifest, protocol=2),
        **{f"{model}/params.dill": params for model in MODELS},
        WEIGHTS: save({**state, _PROBE: guess}),
    }
    config = to_mapping(bundle.config)
    # A deprecated alias, which the field that it stands for has taken over.
    config["n_images"] = None
    index = {
        "format": "ptychostream model",
        "version": list(ARCHIVE_VERSION),
        "written_by": f"ptychostream {__version__}",
        "versions": _versions(),
        "backend": "pytorch",
        "models": {name: {"weights": WEIGHTS, "outputs": out} for name, out in MODELS.items()},
        "config": config,
        "legacy": bundle.legacy,
        "intensity_scale": bundle.intensity_scale,
        "probe": {"modes": list(bundle.probe_guess.shape[:2]), "weights": WEIGHTS},
        "history": bundle.history,
        "training": _summary(bundle),
        "provenance": bundle.provenance,
        "parameters": sum(p.numel() for p in bundle.model.parameters()),
        "sha256": {name: hashlib.sha256(data).hexdigest() for name, data in members.items()},
    }
    described = json.dumps(index, indent=1).encode()
    comment = (_DIGEST + hashlib.sha256(described).hexdigest()).encode()
    return {MANIFEST: members.pop(MANIFEST), INDEX: described, **members}, comment


def read_bundle(members: Members) -> ModelBundle:
    """Read a model from our members.

    Parameters
    ----------
    members : Members
        The archive.

    Returns
    -------
    ModelBundle
        The model.

    Raises
    ------
    DataContractError
        If a member is missing, unexpected, damaged or does not fit; the message names it.
    """
    from safetensors import SafetensorError
    from safetensors.torch import load

    index = read_index(members)
    for name, digest in index["sha256"].items():
        if name == WEIGHTS:
            continue
        data = members.read(name, at_most=DESCRIPTION_BYTES)
        _check_digest(members, name, data, digest)
        read_dictionary(members, name)
    config = _config(members, index)
    origin = f"{members.origin}: member '{WEIGHTS}'"
    shapes = _read_shapes(members)
    probe_shape = shapes.pop(_PROBE, ())
    check_shapes(
        config,
        probe_shape[:-1],
        {name.removeprefix("model."): shape for name, shape in shapes.items()},
        origin,
    )
    data = members.read(WEIGHTS)
    _check_digest(members, WEIGHTS, data, index["sha256"][WEIGHTS])
    try:
        tensors = load(data)
    except (SafetensorError, ValueError, KeyError) as error:
        members.refuse(WEIGHTS, f"can't be read: {error}", error)
    guess = np.asarray(torch.view_as_complex(tensors.pop(_PROBE)).numpy())
    weights = {name.removeprefix("model."): value for name, value in tensors.items()}
    return ModelBundle(
        model=build_model(config, guess, weights, origin),
        config=config,
        intensity_scale=float(index["intensity_scale"]),
        probe_guess=guess,
        history=index["history"],
        legacy=index.get("legacy", {}),
        provenance=index.get("provenance", {}),
    )


def read_index(members: Members) -> dict[str, Any]:
    """Read what our archive says of itself, without its weights.

    Parameters
    ----------
    members : Members
        The archive.

    Returns
    -------
    dict
        Version, backend, configuration, history, digests.

    Raises
    ------
    DataContractError
        If it is damaged, of a newer version, or does not list what is there.
    """
    data = members.read(INDEX, at_most=DESCRIPTION_BYTES)
    try:
        index: Any = json.loads(data)
    # Numbers of many digits and deep nesting are errors of other kinds.
    except (ValueError, RecursionError) as error:
        members.refuse(INDEX, f"is not a readable archive index: {error}", error)
    needed = {"version", "backend", "config", "intensity_scale", "history", "sha256"}
    if not isinstance(index, dict) or not needed <= set(index):
        members.refuse(INDEX, f"lacks some of {sorted(needed)}")
    version = index["version"]
    if not isinstance(version, list) or not all(type(part) is int for part in version):
        members.refuse(INDEX, f"has the version {version!r}")
    if version[:1] > [ARCHIVE_VERSION[0]]:
        raise DataContractError(
            f"{members.origin} has format version {version}; this version reads "
            f"{ARCHIVE_VERSION[0]}.x: update ptychostream"
        )
    if version >= [1, 1]:
        _check_digest(members, INDEX, data, members.comment.decode("latin-1"), prefix=_DIGEST)
    _check_kinds(members, index)
    for name in sorted({*index["sha256"], WEIGHTS, MANIFEST} - set(members.sizes)):
        members.refuse(name, "is missing: it can't be read")
    for name in sorted(set(members.sizes) - {*index["sha256"], INDEX}):
        members.refuse(name, f"is not listed in '{INDEX}'")
    if read_manifest(members).get("backend") != index["backend"]:
        members.refuse(MANIFEST, f"names another backend than '{INDEX}'")
    return index


def _check_kinds(members: Members, index: dict[str, Any]) -> None:
    scale, history = index["intensity_scale"], index["history"]
    if not _is_number(scale) or not 0 < scale < math.inf:
        members.refuse(INDEX, f"has the intensity scale {scale!r}")
    if not isinstance(history, dict) or not all(
        isinstance(losses, list) and all(map(_is_number, losses)) for losses in history.values()
    ):
        members.refuse(INDEX, "has a history that is no lists of numbers")
    for key in ("config", "sha256", "legacy", "provenance"):
        if not isinstance(index.get(key, {}), dict):
            members.refuse(INDEX, f"has a {key} that is no dictionary")
    if index["backend"] != "pytorch":
        members.refuse(INDEX, f"names the backend {index['backend']!r}, expected 'pytorch'")


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _check_digest(
    members: Members, name: str, data: bytes, digest: Any, *, prefix: str = ""
) -> None:
    if digest != prefix + hashlib.sha256(data).hexdigest():
        members.refuse(name, "fails its checksum")


def _config(members: Members, index: dict[str, Any]) -> TrainingConfig:
    try:
        # The alias warns, and what it stands for is written beside it.
        values = {**index["config"], "n_images": None}
        return from_mapping(TrainingConfig, values, origin=members.origin)
    except (ConfigurationError, TypeError, ValueError, AttributeError) as error:
        raise DataContractError(
            f"{members.origin}: member '{INDEX}' has a configuration that this version does not "
            f"read ({error}); is the archive from a newer version?"
        ) from error


def _read_shapes(members: Members) -> dict[str, tuple[int, ...]]:
    """Read name and shape of each weight from the header, which stands before the numbers."""
    length = int.from_bytes(members.head(WEIGHTS, 8), "little")
    if length > _HEADER_BYTES:
        members.refuse(WEIGHTS, "is no safetensors file")
    try:
        header = json.loads(members.head(WEIGHTS, 8 + length)[8:])
        header.pop("__metadata__", None)
        shapes = {name: tuple(int(n) for n in about["shape"]) for name, about in header.items()}
        size = sum(_BYTES[header[name]["dtype"]] * math.prod(shapes[name]) for name in shapes)
    except (ValueError, RecursionError, AttributeError, KeyError, TypeError) as error:
        members.refuse(WEIGHTS, f"is no safetensors file: {error}", error)
    if 8 + length + size != members.sizes[WEIGHTS]:
        members.refuse(WEIGHTS, f"has another size than the {size} bytes of weights it lists")
    return shapes


def _versions() -> dict[str, str]:
    found = {name: metadata.version(name) for name in ("torch", "lightning", "numpy")}
    return {"ptychostream": __version__, "python": platform.python_version(), **found}


def _summary(bundle: ModelBundle) -> dict[str, Any]:
    config, losses = bundle.config, bundle.history.get("train_loss", [])
    summary: dict[str, Any] = {"epochs": len(losses), "nphotons": config.nphotons}
    if config.train_data_file is not None:
        summary["data"] = str(config.train_data_file)
    for name, values in bundle.history.items():
        if values:
            summary[f"last_{name}"], summary[f"best_{name}"] = values[-1], min(values)
    return summary
