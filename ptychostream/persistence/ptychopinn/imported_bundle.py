"""A bundle of ours, from the weights and the probe that an archive of PtychoPINN's gives."""

import logging
import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ptychostream.config import TrainingConfig
from ptychostream.models.forward_model import probe_power
from ptychostream.models.probe import ProbeModel
from ptychostream.persistence.build_model import build_model
from ptychostream.persistence.bundle import ModelBundle
from ptychostream.persistence.entries import Members
from ptychostream.persistence.open_archive import read_manifest

logger = logging.getLogger(__name__)


def imported_bundle(
    members: Members,
    config: TrainingConfig,
    weights: Mapping[str, Tensor],
    probe: NDArray[np.complex64],
    *,
    origin: str,
    model: str,
    maker: str,
    probe_divisor: float,
    intensity_scale: float,
    legacy: dict[str, Any],
    differences: Sequence[str],
) -> ModelBundle:
    """Build our network with given weights, and log what differs from the one that made them.

    `probe` (E, P, N, N), which the maker's forward model divides by `probe_divisor`.
    `origin`: the file and member of the weights, for messages.
    `maker`: the backend, and how it is called in the log.
    """
    scaled = ProbeModel(config.model, probe, trainable=False).state_dict()
    # So that the predicted diffraction has the same scale: our probe is scaled to a given power.
    energy = float((np.abs(probe) ** 2).sum())
    power = probe_power(config.model.N, config.model.probe_scale)
    scale = math.sqrt(energy / power) / probe_divisor
    state = {
        **{f"generator.{key}": value for key, value in weights.items()},
        **{f"probe.{key}": value for key, value in scaled.items()},
        "log_scale": torch.tensor(math.log(scale), dtype=torch.float32),
    }
    logger.warning(
        "%s was made by PtychoPINN's %s; with the same weights, here\n%s",
        members.origin,
        maker,
        "\n".join(f"- {line}" for line in differences),
    )
    return ModelBundle(
        model=build_model(config, probe, state, origin),
        config=config,
        intensity_scale=intensity_scale,
        probe_guess=probe,
        legacy=legacy,
        provenance={
            "made_by": f"PtychoPINN, {maker}",
            "version": str(read_manifest(members)["version"]),
            "model": model,
            "differences": list(differences),
        },
    )
