"""The flat legacy dictionary: the only file that knows its keys and defaults.

Code that reads `params.cfg` sees a configuration after `update_legacy_dict(params.cfg, config)`.
This library reads two values of it: `gridsize` where `generate_grouped_data` is given none, and
`nphotons` for `norm_Y_I` of a container that has none. It decides nothing else.
"""

import difflib
import logging
from collections.abc import Mapping, MutableMapping
from dataclasses import fields, replace
from importlib import import_module
from pathlib import Path
from typing import Any

from typing_extensions import override

from ptychostream.config import InferenceConfig, ModelConfig, TrainingConfig, from_mapping
from ptychostream.errors import BackendUnavailableError, ConfigurationError

logger = logging.getLogger(__name__)

#: Field → legacy key; every other field keeps its name.
KEY_MAPPINGS = {
    "object_big": "object.big",
    "probe_big": "probe.big",
    "probe_mask": "probe.mask",
    "probe_trainable": "probe.trainable",
    "intensity_scale_trainable": "intensity_scale.trainable",
    "positions_provided": "positions.provided",
    "output_dir": "output_prefix",
    "train_data_file": "train_data_file_path",
    "test_data_file": "test_data_file_path",
}

#: Fields that PtychoPINN does not have, and its legacy dictionary neither.
OWN_FIELDS = frozenset(
    {
        "amplitude_physics_gain",
        "amplitude_variation_weight",
        "border_channels",
        "cbam_encoder",
        "cnn_input",
        "groups_per_position",
        "max_neighbor_distance",
        "min_neighbor_distance",
        "neighbor_function",
        "compat",
        "fast_width",
        "memory_budget",
        "num_nodes",
        "overlap_weight",
        "scale_contract_version",
        "measurement_domain",
        "phase_variation_weight",
        "targets",
        "unrolled_steps",
        "unrolled_width",
        "stage_1_epochs",
        "stage_2_epochs",
        "stage_3_epochs",
        "physics_weight_schedule",
        "stage_3_lr_factor",
        "validation_fraction",
    }
)

#: Groups that legacy readers expect where a training configuration leaves the number open.
LEGACY_N_GROUPS = 512

DEFAULTS: dict[str, Any] = {
    "N": 128,
    "offset": 4,
    "gridsize": 2,
    "outer_offset_train": None,
    "outer_offset_test": None,
    "batch_size": 16,
    "nepochs": 60,
    "n_filters_scale": 2,
    "output_prefix": "outputs",
    "big_gridsize": 10,
    "max_position_jitter": 10,
    "sim_jitter_scale": 0.0,
    "default_probe_scale": 0.7,
    "mae_weight": 0.0,
    "nll_weight": 1.0,
    "tv_weight": 0.0,
    "realspace_mae_weight": 0.0,
    "realspace_weight": 0.0,
    "nphotons": 1e9,
    "nimgs_train": 9,
    "nimgs_test": 3,
    "data_source": "generic",
    "probe.trainable": False,
    "intensity_scale.trainable": False,
    "positions.provided": False,
    "object.big": True,
    "probe.big": False,
    "probe_scale": 10.0,
    "set_phi": False,
    "probe.mask": True,
    "pad_object": True,
    "model_type": "pinn",
    "label": "",
    "size": 392,
    "amp_activation": "sigmoid",
    "h5_path": "wts.h5",
    "npseed": 42,
    "debug": True,
    "gaussian_smoothing_sigma": 0.0,
    "use_xla_translate": True,
}


#: Keys that follow from others.
DERIVED = ("bigN", "padding_size", "padded_size")

#: All keys that have a meaning here or in PtychoPINN.
KNOWN_KEYS = frozenset(
    {*DEFAULTS, "intensity_scale", "probe", "_version"}
    | {
        KEY_MAPPINGS.get(item.name, item.name)
        for kind in (ModelConfig, TrainingConfig, InferenceConfig)
        for item in fields(kind)
        if item.name not in OWN_FIELDS and item.name != "model"
    }
)


class LegacyDictionary(dict[str, Any]):
    """The dictionary: keeps any key, warns of unknown ones, refuses derived ones."""

    @override
    def __setitem__(self, key: str, value: Any) -> None:
        _refuse_derived(key)
        if key not in self:
            _warn_of_unknown(key)
        super().__setitem__(key, value)

    @override
    def setdefault(self, key: str, default: Any = None, /) -> Any:
        if key not in self:
            self[key] = default
        return self[key]

    @override
    def update(self, *others: Any, **values: Any) -> None:
        for key, value in dict(*others, **values).items():
            self[key] = value

    @override
    def __ior__(self, other: Any) -> "LegacyDictionary":  # type: ignore[override]
        self.update(other)
        return self

    # Copies and pickles are plain dictionaries, which others can read.
    @override
    def __reduce__(self) -> tuple[type, tuple[dict[str, Any]]]:
        return dict, (dict(self),)


def _refuse_derived(key: str) -> None:
    if key in DERIVED:
        raise ConfigurationError(
            f"'{key}' follows from N, gridsize, offset and max_position_jitter; set those"
        )


def _warn_of_unknown(key: object) -> None:
    """Warn of a key without a meaning, with the nearest that has one."""
    if key in KNOWN_KEYS:
        return
    near = difflib.get_close_matches(str(key), sorted(KNOWN_KEYS), n=1)
    meant = f"did you mean {near[0]!r}? It" if near else "it"
    logger.warning("%r is no key of the legacy dictionary: %s is kept, and unread", key, meant)


class LegacyParams:
    """The dictionary, and the numbers that follow from it.

    Attributes
    ----------
    cfg : dict
        The dictionary itself; begins with `DEFAULTS`.
    """

    def __init__(self) -> None:
        self.cfg: dict[str, Any] = LegacyDictionary(DEFAULTS)

    def get(self, key: str) -> Any:
        """Return a value, stored or derived.

        Parameters
        ----------
        key : str
            A key of `cfg`, or `bigN`, `padding_size` or `padded_size`.

        Returns
        -------
        Any
            The value; KeyError where there is none.
        """
        derived = self._derived()
        return derived[key] if key in derived else self.cfg[key]

    def set(self, key: str, value: Any) -> None:
        """Store a value.

        Parameters
        ----------
        key : str
            Any key that is not derived; of an unknown one there is a warning.
        value : Any
            The value.

        Raises
        ------
        ConfigurationError
            If the key is derived from others, or the value is refused by `validate`.
        """
        _refuse_derived(key)
        check_legacy_values({key: value})
        self.cfg[key] = value

    def params(self) -> dict[str, Any]:
        """Return a copy of the dictionary with the derived values.

        Returns
        -------
        dict
            All stored keys, `bigN`, `padding_size` and `padded_size`.
        """
        return {**self.cfg, **self._derived()}

    def validate(self) -> None:
        """Check the values that decide shapes and losses; a warning names each unknown key.

        Raises
        ------
        ConfigurationError
            If one is out of range.
        """
        check_legacy_values(self.cfg)
        for key in self.cfg.keys() - DERIVED:
            _warn_of_unknown(key)

    def restore(self, values: Mapping[str, Any]) -> None:
        """Write the dictionary of an archive, whatever its keys.

        Parameters
        ----------
        values : mapping
            Legacy keys and values.
        """
        # Past the dictionary's own checks: archives hold derived keys, and their own.
        dict.update(self.cfg, values)

    def _derived(self) -> dict[str, int]:
        reach = (self.cfg["gridsize"] - 1) * self.cfg["offset"]
        padding = reach + self.cfg["max_position_jitter"]
        edge = self.cfg["N"]
        return {"bigN": edge + reach, "padding_size": padding, "padded_size": edge + padding}


def canvas_of(model: ModelConfig, values: Mapping[str, Any]) -> int:
    """Return the edge of the canvas on which PtychoPINN merges a group, in pixels.

    Parameters
    ----------
    model : ModelConfig
        N and gridsize.
    values : mapping
        Legacy keys and values; `offset` and `max_position_jitter` are the defaults where missing.

    Returns
    -------
    int
        `padded_size`.
    """
    known = {**DEFAULTS, **values}
    return int(model.N + (model.gridsize - 1) * known["offset"] + known["max_position_jitter"])


#: The dictionary of this process.
params = LegacyParams()


def check_legacy_values(values: MutableMapping[str, Any]) -> None:
    """Check legacy values, as far as they are there.

    Parameters
    ----------
    values : mapping
        Legacy keys and values.

    Raises
    ------
    ConfigurationError
        If a value is out of range.
    """
    for key in ("N", "gridsize", "batch_size", "nepochs", "n_filters_scale"):
        if key in values and not (isinstance(values[key], int) and values[key] >= 1):
            raise ConfigurationError(f"{key}={values[key]!r} must be a whole number from 1")
    for key in ("nphotons", "probe_scale"):
        if key in values and not values[key] > 0:
            raise ConfigurationError(f"{key}={values[key]!r} must be above 0")
    for key in ("mae_weight", "nll_weight"):
        if key in values and not 0 <= values[key] <= 1:
            raise ConfigurationError(f"{key}={values[key]!r} must lie in 0 … 1")
    if "gaussian_smoothing_sigma" in values and not values["gaussian_smoothing_sigma"] >= 0:
        raise ConfigurationError(
            f"gaussian_smoothing_sigma={values['gaussian_smoothing_sigma']!r} must be at least 0"
        )


def dataclass_to_legacy_dict(
    config: ModelConfig | TrainingConfig | InferenceConfig,
) -> dict[str, Any]:
    """Flatten a configuration into legacy keys.

    Parameters
    ----------
    config : ModelConfig, TrainingConfig or InferenceConfig
        What is computed. How it executes never enters the dictionary.

    Returns
    -------
    dict
        Legacy keys; `model` is flattened, paths are strings, None stays None.

    Raises
    ------
    ConfigurationError
        If `config` is no such configuration.

    Examples
    --------
    >>> dataclass_to_legacy_dict(ModelConfig(probe_big=False))["probe.big"]
    False
    """
    if not isinstance(config, ModelConfig | TrainingConfig | InferenceConfig):
        raise ConfigurationError(
            f"{type(config).__name__} has no place in the legacy dictionary; pass a ModelConfig, "
            "TrainingConfig or InferenceConfig"
        )
    flat: dict[str, Any] = {}
    for item in fields(config):
        value = getattr(config, item.name)
        if isinstance(value, ModelConfig):
            flat |= dataclass_to_legacy_dict(value)
        elif item.name not in OWN_FIELDS:
            key = KEY_MAPPINGS.get(item.name, item.name)
            flat[key] = str(value) if isinstance(value, Path) else value
    if isinstance(config, TrainingConfig) and config.n_groups is None:
        flat["n_groups"] = LEGACY_N_GROUPS
    return flat


def training_config_of(values: Mapping[str, Any]) -> tuple[TrainingConfig, dict[str, Any]]:
    """Make a configuration from a whole legacy dictionary: the way back.

    Parameters
    ----------
    values : mapping
        Legacy keys and values; what is missing has the dictionary's own default.

    Returns
    -------
    config : TrainingConfig
        The configuration; `backend` is `pytorch`, which takes all that the other one does.
    others : dict
        Values that no field holds: plain ones only.

    Raises
    ------
    ConfigurationError
        If a value is out of range.
    """
    known = {**DEFAULTS, **values}
    found: dict[type, dict[str, Any]] = {}
    taken = {"backend", "n_images"}
    for kind in (ModelConfig, TrainingConfig):
        mine = {KEY_MAPPINGS.get(f.name, f.name): f.name for f in fields(kind)}
        taken |= set(mine)
        found[kind] = {
            name: _plain(known[key])
            for key, name in mine.items()
            if known.get(key) is not None and name not in ("model", "backend", "n_images")
        }
    try:
        training = from_mapping(TrainingConfig, {**found[TrainingConfig], "backend": "pytorch"})
        config = replace(training, model=from_mapping(ModelConfig, found[ModelConfig]))
    except (TypeError, ValueError) as error:
        raise ConfigurationError(f"the legacy dictionary does not fit: {error}") from error
    others = {key: _plain(value) for key, value in values.items() if key not in taken}
    kinds = (str, int, float, bool)
    return config, {key: value for key, value in others.items() if isinstance(value, kinds)}


def _plain(value: Any) -> Any:
    """Turn a scalar of NumPy into Python's own."""
    return value.item() if hasattr(value, "item") and getattr(value, "ndim", 1) == 0 else value


def update_legacy_dict(
    cfg: MutableMapping[str, Any], config: ModelConfig | TrainingConfig | InferenceConfig
) -> None:
    """Write a configuration into a legacy dictionary; None overwrites nothing.

    Parameters
    ----------
    cfg : dict
        Usually `params.cfg`; changed in place.
    config : ModelConfig, TrainingConfig or InferenceConfig
        The configuration.
    """
    for key, value in dataclass_to_legacy_dict(config).items():
        if value is not None:
            cfg[key] = value


def update_installed_ptycho(config: ModelConfig | TrainingConfig | InferenceConfig) -> None:
    """Write a configuration into the `ptycho.params.cfg` of PtychoPINN's TensorFlow package.

    Call it before anything else of PtychoPINN is imported: its modules read the dictionary while
    they are imported.

    Parameters
    ----------
    config : ModelConfig, TrainingConfig or InferenceConfig
        The configuration.

    Raises
    ------
    BackendUnavailableError
        If the package `ptycho` is not there.
    """
    update_legacy_dict(installed_ptycho_cfg(), config)


def installed_ptycho_cfg() -> MutableMapping[str, Any]:
    """Return the `ptycho.params.cfg` of PtychoPINN's installed TensorFlow package itself.

    Returns
    -------
    dict
        Changing it changes what PtychoPINN computes.

    Raises
    ------
    BackendUnavailableError
        If the package `ptycho` is not there.
    """
    try:
        theirs: MutableMapping[str, Any] = import_module("ptycho.params").cfg
    except ImportError as error:
        raise BackendUnavailableError(
            f"TensorFlow backend selected, but the package 'ptycho' can't be imported ({error}); "
            "pip install tensorflow git+https://github.com/hoidn/PtychoPINN, or choose "
            "backend='pytorch'"
        ) from error
    return theirs
