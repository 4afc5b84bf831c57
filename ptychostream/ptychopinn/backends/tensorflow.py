"""The installed TensorFlow package `ptycho`: given the same values, it does the work."""

from dataclasses import fields, is_dataclass
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ptychostream.config import InferenceConfig, TrainingConfig
from ptychostream.errors import BackendUnavailableError, ConfigurationError
from ptychostream.legacy import LEGACY_N_GROUPS, OWN_FIELDS, params, update_installed_ptycho

#: The one scaling profile that it has.
_ITS_SCALING = ("legacy_v1", "normalized_amplitude")


def train_cdi_model(
    train_data: Any, test_data: Any, config: TrainingConfig, execution_config: Any
) -> dict[str, Any]:
    """Train with the installed package."""
    components = _components(config, execution_config)
    results = components.train_cdi_model(
        _data(train_data, config), _data(test_data, config), _config(config)
    )
    return {**results, "backend": "tensorflow"}


def run_cdi_example(
    train_data: Any,
    test_data: Any,
    config: TrainingConfig,
    *,
    flip_x: bool,
    flip_y: bool,
    transpose: bool,
    M: int,
    do_stitching: bool,
    execution_config: Any,
) -> tuple[Any, Any, dict[str, Any]]:
    """Train and stitch with the installed package."""
    components = _components(config, execution_config)
    amplitude, phase, results = components.run_cdi_example(
        _data(train_data, config),
        _data(test_data, config),
        _config(config),
        flip_x=flip_x,
        flip_y=flip_y,
        transpose=transpose,
        M=M,
        do_stitching=do_stitching,
    )
    return amplitude, phase, {**results, "backend": "tensorflow"}


def load_inference_bundle(directory: Any) -> tuple[Any, dict[str, Any]]:
    """Load a model with the installed package, which restores its own dictionary.

    Raises
    ------
    BackendUnavailableError
        If the package is not there.
    """
    try:
        components = _import("ptycho.workflows.components")
    except BackendUnavailableError as error:
        raise BackendUnavailableError(
            f"{error}; or do without that package: `ptychostream convert` makes an archive of ours"
        ) from error
    model, values = components.load_inference_bundle(directory)
    params.cfg.update(values)
    return model, values


def save_model(directory: Path) -> Path:
    """Save the model that was trained last in this process."""
    directory.mkdir(parents=True, exist_ok=True)
    _import("ptycho.model_manager").save(str(directory))
    return directory / "wts.h5.zip"


def predict_patches(
    config: InferenceConfig, data: Any, probe: NDArray[np.complex64]
) -> tuple[NDArray[np.complex64], NDArray[np.float64]]:
    """Predict the object around each group of a scan with a saved model.

    Parameters
    ----------
    config : InferenceConfig
        `model_path` is the folder of the archive, `neighbor_count` the neighbours that a group
        is drawn from; the model's own shape is the archive's.
    probe : (N, N) complex64
        Illumination, one mode: the package knows no more.

    Returns
    -------
    patches : (B, N, N) complex64
        The object around each group's centre.
    centres : (B, 2) float64
        Where that is: (x, y), in the pixels of the scan's positions.
    """
    components = _components(config, None)
    model, values = components.load_inference_bundle(config.model_path)
    theirs = _data(data, config)
    _import("ptycho.probe").set_probe_guess(None, probe)
    grouped = theirs.generate_grouped_data(
        values["N"],
        K=config.neighbor_count,
        nsamples=config.n_groups or len(theirs.diff3d),
        gridsize=values["gridsize"],
    )
    loader = _import("ptycho.loader")
    container = loader.load(lambda: grouped, probe, which=None, create_split=False)
    scale = _import("ptycho.params").get("intensity_scale")
    patches = np.asarray(model.predict([container.X * scale, container.local_offsets]))
    centres = np.asarray(container.global_offsets, float).reshape(len(patches), 2)
    return patches[..., 0].astype(np.complex64), centres


def _components(config: TrainingConfig | InferenceConfig, execution_config: Any) -> Any:
    if execution_config is not None:
        raise ConfigurationError(
            "execution_config belongs to the PyTorch backend; leave it out, or choose "
            "backend='pytorch'"
        )
    # Modules of that package read its dictionary while they are imported.
    update_installed_ptycho(config)
    _refuse_what_it_lacks(config)
    return _import("ptycho.workflows.components")


def _refuse_what_it_lacks(config: TrainingConfig | InferenceConfig) -> None:
    """Refuse options that only the PyTorch backend has: that package would never see them."""
    for part in (config, config.model):
        default = type(part)()
        for name in sorted(OWN_FIELDS & {item.name for item in fields(part)}):
            value = getattr(part, name)
            if value in (getattr(default, name), *_ITS_SCALING):
                continue
            raise ConfigurationError(
                f"{name}={value!r} is an option of the PyTorch backend; leave it at "
                f"{getattr(default, name)!r}, or choose backend='pytorch'"
            )
    if config.model.architecture == "unrolled":
        raise ConfigurationError(
            "architecture='unrolled' is a network of the PyTorch backend; choose 'cnn', or "
            "backend='pytorch'"
        )


def _import(module: str) -> Any:
    try:
        return import_module(module)
    except ImportError as error:
        raise BackendUnavailableError(
            f"TensorFlow backend selected, but '{module}' can't be imported ({error}); "
            "pip install tensorflow git+https://github.com/hoidn/PtychoPINN, or choose "
            "backend='pytorch'"
        ) from error


def _data(data: Any, config: TrainingConfig | InferenceConfig) -> Any:
    """Hand our raw data over as theirs; anything else is theirs already."""
    # Asked by name: importing our class would import torch.
    if not hasattr(data, "as_arrays"):
        return data
    if config.n_subsample is not None:
        # That package draws where it loads files, so it would not draw these.
        data = data.subsample(config.n_subsample, config.subsample_seed)
    return _import("ptycho.raw_data").RawData(**data.as_arrays())


def _config(config: Any) -> Any:
    """Hand a configuration over as theirs, with the fields that it has."""
    kind = getattr(_import("ptycho.config.config"), type(config).__name__)
    known = {item.name for item in fields(kind)}
    values = {}
    for item in fields(config):
        value = getattr(config, item.name)
        if item.name in known:
            values[item.name] = _config(value) if is_dataclass(value) else value
    if isinstance(config, TrainingConfig) and config.n_groups is None and "n_groups" in known:
        values["n_groups"] = LEGACY_N_GROUPS
    # It has done its work: it would warn a second time.
    values.pop("n_images", None)
    return kind(**values)
