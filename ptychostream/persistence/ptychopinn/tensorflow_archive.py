"""Archives of PtychoPINN's TensorFlow backend, read into our network without TensorFlow."""

import math
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from ptychostream.config import ModelConfig, TrainingConfig
from ptychostream.errors import ConfigurationError, DataContractError
from ptychostream.legacy import training_config_of
from ptychostream.models.generators.autoencoder import Autoencoder
from ptychostream.persistence.build_model import check_sizes
from ptychostream.persistence.bundle import ModelBundle
from ptychostream.persistence.entries import Members
from ptychostream.persistence.open_archive import read_dictionary
from ptychostream.persistence.ptychopinn.imported_bundle import imported_bundle
from ptychostream.persistence.ptychopinn.keras_import import import_weights

#: Models that hold the network; the first is smaller, as it has no optimiser's state.
_MODELS = ("diffraction_to_obj", "autoencoder")
_KERAS, _PARAMS = "model.keras", "params.dill"
_PROBE, _SCALE, _VERSION = "probe", "intensity_scale", "_version"

#: Differences of our conventions, for the warning on loading such an archive.
DIFFERENCES = (
    "patches of a group are averaged by the light on them; PtychoPINN adds whole patches and "
    "counts central halves: predict(..., convention='upstream') gives its numbers",
    "each group is merged by itself; PtychoPINN adds up 64 or more patterns of a batch on one "
    "canvas",
    "the probe's mask is applied before the exit wave is smoothed; PtychoPINN applies it after "
    "that, and so does convention='upstream'",
    "a group may be as wide as it is; PtychoPINN's canvas ends some pixels beyond a patch, and so "
    "does that of convention='upstream'",
    "a probe that was trained in PtychoPINN is not in the file: the guess is used",
    "optimiser and losses of the training are not taken over",
)


def read_tensorflow(members: Members) -> ModelBundle:
    """Read a model from members that the TensorFlow backend wrote."""
    model, config, values, others = read_settings(members)
    name = f"{model}/{_KERAS}"
    origin = f"{members.origin}: member '{name}'"
    weights = import_weights(members.read(name), config.model, origin)
    probe = _probe(members, model, values, config.model.N)
    return imported_bundle(
        members,
        config,
        weights,
        probe,
        origin=origin,
        model=model,
        maker="TensorFlow backend",
        probe_divisor=1.0,
        intensity_scale=_scale(members, model, values),
        legacy=others,
        differences=DIFFERENCES,
    )


def read_settings(
    members: Members,
) -> tuple[str, TrainingConfig, dict[str, Any], dict[str, Any]]:
    """Read everything but the weights."""
    model = next((name for name in _MODELS if f"{name}/{_KERAS}" in members.sizes), None)
    if model is None:
        raise DataContractError(
            f"{members.origin} has no '{_MODELS[0]}/{_KERAS}': it is older than Keras's own file "
            "format; save it again with the package that made it"
        )
    name = f"{model}/{_PARAMS}"
    values = read_dictionary(members, name)
    for key in ("N", "gridsize", _PROBE, _SCALE):
        if values.get(key) is None:
            members.refuse(name, f"lacks '{key}'")
    try:
        config, others = training_config_of(values)
    except (ConfigurationError, ValueError, TypeError, AttributeError, ArithmeticError) as error:
        members.refuse(name, f"can't be understood: {error}", error)
    # For any model_type PtychoPINN's TensorFlow workflow trains the same network.
    if config.model.architecture != "cnn":
        members.refuse(
            name,
            f"describes architecture {config.model.architecture!r}; only PtychoPINN's 'cnn' can be",
        )
    # The edge of the mask is always hard in PtychoPINN.
    hard = replace(config.model, probe_mask_sigma=0.0, probe_mask_diameter=None)
    for key in (_PROBE, _SCALE, _VERSION):
        others.pop(key, None)
    return model, replace(config, model=hard), values, others


def count_parameters(config: ModelConfig, origin: str) -> int:
    """Count the parameters of the CNN of a configuration, without building it."""
    check_sizes(config, origin)
    try:
        with torch.device("meta"):
            return sum(p.numel() for p in Autoencoder(config).parameters())
    except (ConfigurationError, RuntimeError) as error:
        raise DataContractError(f"{origin} describes no network: {error}") from error


def _probe(
    members: Members, model: str, values: dict[str, Any], edge: int
) -> NDArray[np.complex64]:
    """Convert the dictionary's probe, (N, N), (N, N, 1) or (N, N, P), to our axes."""
    try:
        probe = np.asarray(values[_PROBE])
    except ValueError as error:
        members.refuse(
            f"{model}/{_PARAMS}", f"has a probe that is no array, expected N={edge}: {error}", error
        )
    if (
        probe.size == 0
        or probe.shape[:2] != (edge, edge)
        or probe.ndim > 3
        or probe.dtype.kind not in "fc"
    ):
        members.refuse(
            f"{model}/{_PARAMS}", f"has a probe of {probe.dtype}{probe.shape}, expected N={edge}"
        )
    modes = np.moveaxis(probe.reshape(edge, edge, -1), -1, 0)[None].astype(np.complex64)
    if not np.isfinite(modes).all() or not np.abs(modes).max() > 0:
        members.refuse(f"{model}/{_PARAMS}", "has a probe that is empty or not finite")
    return modes


def check_light(members: Members, model: str, values: dict[str, Any], edge: int) -> None:
    """Check the probe and the intensity scale of a dictionary."""
    _probe(members, model, values, edge)
    _scale(members, model, values)


def _scale(members: Members, model: str, values: dict[str, Any]) -> float:
    value = values[_SCALE]
    try:
        scale = float(value)
    except (TypeError, ValueError, OverflowError):
        scale = math.nan
    if not 0 < scale < math.inf:
        plain = isinstance(value, str | float)
        said = f"{value!r:.60}" if plain else f"of type {type(value).__name__}"
        members.refuse(
            f"{model}/{_PARAMS}", f"has the intensity scale {said}, expected a positive number"
        )
    return scale
