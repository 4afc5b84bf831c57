"""Our own members of an archive: JSON and safetensors, and a digest of each.

Pickled dictionaries are written beside them, for PtychoPINN.
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

from ptychostream._version import __version__
from ptychostream.config import TrainingConfig, from_mapping, to_mapping
from ptychostream.errors import ConfigurationError, DataContractError
from ptychostream.persistence.build_model import build_model, check_shapes
from ptychostream.persistence.bundle import ModelBundle
from ptychostream.persistence.entries import Members
from ptychostream.persistence.index import (
    ARCHIVE_VERSION,
    DIGEST,
    MODELS,
    WEIGHTS,
    check_digest,
    read_index,
)
from ptychostream.persistence.open_archive import (
    DESCRIPTION_BYTES,
    INDEX,
    MANIFEST,
    read_dictionary,
)
from ptychostream.persistence.ptychopinn.legacy_params import legacy_params

_PROBE = "probe_guess"
#: Longest header of a weights file: a line for each weight.
_HEADER_BYTES = 2**22
#: Bytes of a number, by the names that safetensors has for types.
_BYTES = {"F32": 4, "F64": 8, "F16": 2, "BF16": 2, "I64": 8, "I32": 4, "U8": 1, "BOOL": 1}
#: What values of another kind than expected raise.
_OTHER_KINDS = (AttributeError, TypeError, ArithmeticError)


def write_members(bundle: ModelBundle) -> tuple[dict[str, bytes], bytes]:
    """Turn a model into members of an archive.

    Returns `members`: content of each member by name, in the order in which they are best written.
    Returns `comment`: the archive's, the digest of the index, which holds those of all others.
    """
    from safetensors.torch import save

    # Copies: some generators share weights between layers, which safetensors refuses.
    state = {
        f"model.{name}": value.detach().cpu().contiguous().clone()
        for name, value in bundle.model.state_dict().items()
    }
    guess = torch.view_as_real(torch.as_tensor(bundle.probe_guess)).contiguous()
    manifest = {
        "models": list(MODELS),
        "version": ".".join(map(str, ARCHIVE_VERSION)),
        "backend": "pytorch",
    }
    # Protocol 2 can be read by every reader of PtychoPINN's archives.
    params = pickle.dumps(legacy_params(bundle), protocol=2)
    members = {
        MANIFEST: pickle.dumps(manifest, protocol=2),
        **{f"{model}/params.dill": params for model in MODELS},
        WEIGHTS: save({**state, _PROBE: guess}),
    }
    config = to_mapping(bundle.config)
    # A deprecated alias; its value is in the field that it stands for.
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
    comment = (DIGEST + hashlib.sha256(described).hexdigest()).encode()
    return {MANIFEST: members.pop(MANIFEST), INDEX: described, **members}, comment


def read_bundle(members: Members) -> ModelBundle:
    """Read a model from our members."""
    from safetensors import SafetensorError
    from safetensors.torch import load

    index = read_index(members)
    for name, digest in index["sha256"].items():
        if name == WEIGHTS:
            continue
        data = members.read(name, at_most=DESCRIPTION_BYTES)
        check_digest(members, name, data, digest)
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
    check_digest(members, WEIGHTS, data, index["sha256"][WEIGHTS])
    try:
        tensors = load(data)
    except (SafetensorError, ValueError, KeyError) as error:
        members.refuse(WEIGHTS, f"can't be read: {error}", error)
    parts = tensors.pop(_PROBE)
    if parts.dtype != torch.float32 or parts.shape[-1] != 2:
        members.refuse(
            WEIGHTS,
            f"has '{_PROBE}' of {parts.dtype}{tuple(parts.shape)}, expected torch.float32 with "
            "real and imaginary parts along the last axis",
        )
    guess = np.asarray(torch.view_as_complex(parts).numpy())
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


def _config(members: Members, index: dict[str, Any]) -> TrainingConfig:
    try:
        # The alias would warn; the field that it stands for is there too.
        values = {**index["config"], "n_images": None}
        return from_mapping(TrainingConfig, values, origin=members.origin)
    except (ConfigurationError, ValueError, *_OTHER_KINDS) as error:
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
    except (ValueError, RecursionError, LookupError, *_OTHER_KINDS) as error:
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
