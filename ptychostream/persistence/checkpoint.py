"""Lightning checkpoints of a training run, read as data."""

import io
from pathlib import Path
from typing import Any

import numpy as np
import torch

from ptychostream.config import TrainingConfig, from_mapping
from ptychostream.errors import ConfigurationError, DataContractError
from ptychostream.persistence.build_model import build_model
from ptychostream.persistence.bundle import ModelBundle
from ptychostream.persistence.entries import Limits, Members

#: Key of our own entry in a checkpoint.
DESCRIPTION = "ptychostream"

#: Checkpoints hold each tensor of model and optimiser as a member, stored as it is.
_LIMITS = Limits(members=8192, ratio=4)


def read_checkpoint(path: Path) -> ModelBundle:
    """Read the model of a checkpoint that our training wrote."""
    origin = f"'{path}'"
    content = load_checkpoint(path)
    about = _description(content, origin)
    try:
        config = from_mapping(TrainingConfig, {**about["config"], "n_images": None}, origin=origin)
        # A copy: the checkpoint itself is only mapped, and may be replaced.
        guess = np.array(about["probe_guess"].numpy())
    except (KeyError, TypeError, ValueError, AttributeError, ConfigurationError) as error:
        raise DataContractError(
            f"{origin}: entry '{DESCRIPTION}' can't be read: {error}"
        ) from error
    weights = {name.removeprefix("model."): value for name, value in content["state_dict"].items()}
    return ModelBundle(
        model=build_model(config, guess, weights, origin),
        config=config,
        intensity_scale=about["intensity_scale"],
        probe_guess=guess,
        history=about["history"],
        provenance={"checkpoint": str(path), "epoch": about["epoch"]},
    )


def read_description(path: Path) -> dict[str, Any]:
    """Read the description in a checkpoint; its weights stay on disk."""
    origin = f"'{path}'"
    return _description(load_checkpoint(path), origin)


def _description(content: dict[str, Any], origin: str) -> dict[str, Any]:
    about, state = content.get(DESCRIPTION), content.get("state_dict")
    if not isinstance(about, dict) or not isinstance(state, dict):
        raise DataContractError(
            f"{origin} is a checkpoint without the entry '{DESCRIPTION}': it was not written by "
            "this version's training"
        )
    try:
        return {
            **about,
            "config": dict(about["config"]),
            "intensity_scale": float(about["intensity_scale"]),
            "history": {str(k): [float(x) for x in v] for k, v in about["history"].items()},
            "epoch": int(content.get("epoch", 0)),
            "step": int(content.get("global_step", 0)),
            "parameters": sum(v.numel() for k, v in state.items() if not k.endswith(".guess")),
        }
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise DataContractError(
            f"{origin}: entry '{DESCRIPTION}' can't be read: {error}"
        ) from error


def load_checkpoint(path: Path) -> dict[str, Any]:
    """Load a checkpoint as plain data, with every checksum compared."""
    return load_plain_tensors(path, f"'{path}'")


def load_plain_tensors(source: Path | bytes, origin: str) -> dict[str, Any]:
    """Load a dictionary that PyTorch saved, of plain data and tensors; nothing in it can run."""
    with Members(source, origin, _LIMITS) as members:
        # PyTorch itself does not compare checksums.
        members.check()
    is_file = isinstance(source, Path)
    try:
        content: Any = torch.load(
            source if isinstance(source, Path) else io.BytesIO(source),
            map_location="cpu",
            weights_only=True,
            mmap=is_file,
        )
    # PyTorch's reader may raise any error for a hostile file.
    except Exception as error:
        # PyTorch's own message advises to load the file without its checks.
        why = (str(error).splitlines() or [type(error).__name__])[0].split(". ")[0]
        raise DataContractError(f"{origin} is no checkpoint of plain data: {why}") from error
    if not isinstance(content, dict):
        raise DataContractError(f"{origin} is no checkpoint")
    return content
