"""Archives of PtychoPINN's PyTorch port, read into our network without PtychoPINN.

The weights are tensors that PyTorch loads with `weights_only`; settings are plain pickles. The
file holds no probe, so that one is given.
"""

import math
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from ptychostream.config import TrainingConfig
from ptychostream.config.ptychopinn_settings import RECTANGULAR
from ptychostream.errors import ConfigurationError, DataContractError
from ptychostream.legacy import training_config_of
from ptychostream.persistence.bundle import ModelBundle
from ptychostream.persistence.checkpoint import load_plain_tensors
from ptychostream.persistence.entries import Members
from ptychostream.persistence.open_archive import read_dictionary
from ptychostream.persistence.ptychopinn.imported_bundle import imported_bundle

_WEIGHTS, _PARAMS = "diffraction_to_obj/model.pth", "diffraction_to_obj/params.dill"
_SCALING = "torch_scaling_metadata.pt"
_PREFIX, _FORWARD = "model.autoencoder.", "model.forward_model."
_SCALE, _VERSION, _GAIN = "intensity_scale", "_version", "amplitude_physics_gain"

#: Layer of a block there → here.
_PAIR = {"conv1": "first", "conv2": "second"}
_ATTENTION = {
    "ChannelGate.mlp.1": "squeeze",
    "ChannelGate.mlp.3": "expand",
    "SpatialGate.compress": "pixels",
}
#: Decoder there, and the name of its last layers → here.
_DECODERS = {("decoder_amp", "amp"): "amplitude", ("decoder_phase", "phase"): "phase"}
#: Name of an activation there → here.
_ACTIVATIONS = {"silu": "swish", "SiLU": "swish"}

#: Settings of that network which change what its weights mean, and the only values read.
_ONLY = {
    "architecture": "cnn",
    "cnn_output_mode": "amp_phase",
    "physics_forward_mode": "amplitude",
}

#: Differences of our conventions, for the warning on loading such an archive.
DIFFERENCES = (
    "patches of a group are averaged by the light on them; the port adds whole patches and counts "
    "central halves",
    "modes of the probe add as intensities; in the port they add as waves",
    "the probe is the one given; one that was trained is not in the file",
    "optimiser and losses of the training are not taken over",
)


def read_port(members: Members, probe_guess: NDArray[np.complex64]) -> ModelBundle:
    """Read a model from members that PtychoPINN's PyTorch port wrote.

    `probe_guess` (N, N) or (P, N, N): the probe that it was trained with.
    """
    for name in (_WEIGHTS, _PARAMS):
        if name not in members.sizes:
            members.refuse(name, "is missing")
    values = read_dictionary(members, _PARAMS)
    content = load_plain_tensors(members.read(_WEIGHTS), f"{members.origin}: member '{_WEIGHTS}'")
    config, others = _settings(members, values, content)
    origin = f"{members.origin}: member '{_WEIGHTS}'"
    weights = _renamed(content, origin, border=config.model.probe_big)
    probe = _probe(probe_guess, config.model.N)
    return imported_bundle(
        members,
        config,
        weights,
        probe,
        origin=origin,
        model="diffraction_to_obj",
        maker="PyTorch backend",
        probe_divisor=config.model.probe_scale,
        intensity_scale=_intensity_scale(members, values, config),
        legacy=others,
        differences=DIFFERENCES,
    )


def _settings(
    members: Members, values: dict[str, Any], content: Mapping[str, Any]
) -> tuple[TrainingConfig, dict[str, Any]]:
    """Make the configuration of the legacy dictionary and of what the port itself recorded."""
    for key in ("N", "gridsize"):
        if values.get(key) is None:
            members.refuse(_PARAMS, f"lacks '{key}'")
    recorded: Any = {}
    if _SCALING in members.sizes:
        found = load_plain_tensors(members.read(_SCALING), f"{members.origin}: member '{_SCALING}'")
        recorded = found.get("model_config") or {}
        if not isinstance(recorded, Mapping):
            members.refuse(_SCALING, "has a model_config that is no dictionary")
        if found.get("ci_statistics") is not None:
            members.refuse(
                _SCALING,
                "says that the network was trained on intensities (ci_intensity_v2), whose scale "
                "stands in ci_statistics; in which entry and unit is nowhere stated, and without "
                "it the weights mean nothing: train here with model.cnn_input='intensity'",
            )
    for name, only in _ONLY.items():
        value = recorded.get(name, values.get(name, only))
        if value != only:
            why = f": {RECTANGULAR}" if value == "rectangular_scaled" else ""
            members.refuse(
                _SCALING if name in recorded else _PARAMS,
                f"describes a network with {name}={value!r}{why}; only {only!r} is read: train "
                "again",
            )
    activations = [
        _ACTIVATIONS.get(named["amp_activation"], named["amp_activation"])
        for named in (values, recorded)
        if isinstance(named.get("amp_activation"), str)
    ]
    if len(set(activations)) > 1:
        members.refuse(
            _SCALING,
            f"describes a network with amp_activation {activations[1]!r}, '{_PARAMS}' one with "
            f"{activations[0]!r}",
        )
    try:
        known = {**values, "amp_activation": activations[-1]} if activations else values
        config, others = training_config_of(known)
    except (ConfigurationError, ValueError, TypeError, AttributeError, ArithmeticError) as error:
        members.refuse(_PARAMS, f"can't be understood: {error}", error)
    model = config.model
    if not model.pad_object or (not model.object_big and model.gridsize > 1):
        members.refuse(
            _PARAMS,
            f"describes a network with pad_object={model.pad_object}, object_big="
            f"{model.object_big} and gridsize {model.gridsize}, which is not read: train again",
        )
    for key in (_SCALE, _VERSION):
        others.pop(key, None)
    attention = any(".attention." in name for name in content)
    model = replace(
        model,
        cbam_encoder=attention,
        border_channels="outputs",
        amplitude_physics_gain=_gain(members, recorded),
    )
    return replace(config, model=model), others


def _gain(members: Members, recorded: Mapping[str, Any]) -> float:
    """Return the factor on the predicted amplitude that the port recorded."""
    gain = recorded.get(_GAIN)
    if gain is None:
        return 1.0
    if isinstance(gain, bool) or not isinstance(gain, int | float) or not 0 < gain < math.inf:
        members.refuse(_SCALING, f"has {_GAIN}={gain!r:.60}, expected a number above 0")
    return float(gain)


def _renamed(content: Mapping[str, Any], origin: str, *, border: bool) -> dict[str, Tensor]:
    """Give the port's weights the names of ours; those of an unused border are left out."""
    found: dict[str, Tensor] = {}
    for name, value in content.items():
        if not isinstance(value, Tensor):
            raise DataContractError(f"{origin}: '{name}' is no tensor")
        if name.startswith(_FORWARD):
            continue
        new = _ours(name.removeprefix(_PREFIX)) if name.startswith(_PREFIX) else None
        if new is None:
            raise DataContractError(
                f"{origin} has the weight '{name}', of a layer that our 'cnn' does not have: train "
                "again"
            )
        if border or ".outer" not in new:
            found[new] = value.float()
    return found


def _ours(name: str) -> str | None:
    """Return our name of a weight of the port's autoencoder."""
    layer, _, kind = name.rpartition(".")
    parts = layer.split(".")
    if parts[:2] == ["encoder", "blocks"] and len(parts) > 3:
        rest = ".".join(parts[4:])
        if parts[3] == "attention" and rest in _ATTENTION:
            return f"attention.{parts[2]}.{_ATTENTION[rest]}.{kind}"
        return f"encoder.{parts[2]}.{_PAIR[parts[3]]}.{kind}" if parts[3] in _PAIR else None
    for (decoder, last), ours in _DECODERS.items():
        if parts[:2] == [decoder, "blocks"] and len(parts) == 4 and parts[3] in _PAIR:
            return f"{ours}.levels.{parts[2]}.{_PAIR[parts[3]]}.{kind}"
        ends = {
            f"{decoder}.{last}.conv1": "inner",
            f"{decoder}.{last}.conv2": "outer_last",
            **{f"{decoder}.{last}.conv_up_block.{k}": f"outer.{v}" for k, v in _PAIR.items()},
        }
        if layer in ends:
            return f"{ours}.{ends[layer]}.{kind}"
    return None


def _probe(guess: NDArray[Any], edge: int) -> NDArray[np.complex64]:
    guess = np.asarray(guess)
    if guess.ndim not in (2, 3) or guess.shape[-2:] != (edge, edge):
        raise DataContractError(
            f"probe_guess is {guess.shape}, expected ({edge}, {edge}) or (P, {edge}, {edge}): the "
            f"model has N={edge}"
        )
    modes = guess.reshape(1, -1, edge, edge).astype(np.complex64)
    if not np.isfinite(modes).all() or not np.abs(modes).max() > 0:
        raise DataContractError("probe_guess is empty or not finite; give the scan's probe")
    return modes


def _intensity_scale(members: Members, values: Mapping[str, Any], config: TrainingConfig) -> float:
    """Return the dictionary's scale, or that of nphotons in a pattern of mean energy (N/2)²."""
    value = values.get(_SCALE)
    if value is None:
        return math.sqrt(config.nphotons) / (config.model.N / 2)
    scale = float(value) if isinstance(value, int | float) else math.nan
    if not 0 < scale < math.inf:
        members.refuse(_PARAMS, f"has the intensity scale {value!r:.60}, expected a number above 0")
    return scale
