"""The TensorFlow backend: PtychoPINN's installed package `ptycho` trains and reconstructs."""

import logging
import shutil
import sys
import tempfile
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, fields, is_dataclass
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from ptychostream.config import InferenceConfig, PyTorchExecutionConfig, TrainingConfig
from ptychostream.errors import BackendUnavailableError, ConfigurationError, DataContractError
from ptychostream.legacy import (
    LEGACY_N_GROUPS,
    OWN_FIELDS,
    installed_ptycho_cfg,
    params,
    update_installed_ptycho,
)
from ptychostream.ptychopinn.backends.base import Image, StitchingOptions

if TYPE_CHECKING:
    from ptychostream.ptychopinn.backends.base import TrainingData

logger = logging.getLogger(__name__)

#: The one scaling profile that PtychoPINN's TensorFlow package has.
_ITS_SCALING = ("legacy_v1", "normalized_amplitude")
#: Fields that it accepts and never reads.
IDLE = (
    *("model_type", "fno_modes", "fno_width", "fno_blocks", "fno_cnn_blocks"),
    *("learned_input_channels", "max_hidden_channels", "resnet_width", "fno_input_transform"),
    *("generator_output_mode", "probe_mask_sigma", "probe_mask_diameter"),
    *("probe_trainable", "torch_loss_mode", "torch_mae_pred_l2_match_target", "gradient_clip_val"),
    *("gradient_clip_algorithm", "optimizer", "momentum", "weight_decay", "adam_beta1"),
    *("adam_beta2", "scheduler", "lr_warmup_epochs", "lr_min_ratio", "plateau_factor"),
    *("plateau_patience", "plateau_min_lr", "plateau_threshold"),
)
#: Networks that only this package has; PtychoPINN checks all other names.
_OUR_NETWORKS = ("unrolled", "fno", "ffno")
#: Name of the archive that it looks for in a folder.
_ARCHIVE = "wts.h5.zip"
_SCALE = "intensity_scale"


def train_cdi_model(
    train_data: "TrainingData",
    test_data: "TrainingData | None",
    config: TrainingConfig,
    execution_config: PyTorchExecutionConfig | None,
) -> dict[str, Any]:
    """Train with the installed package."""
    components = _components(config, execution_config)
    results = components.train_cdi_model(
        _training_data(train_data, config), _data(test_data), _config(config)
    )
    _mirror_scale()
    return {**results, "backend": "tensorflow"}


def run_cdi_example(
    train_data: "TrainingData",
    test_data: "TrainingData | None",
    config: TrainingConfig,
    stitching: StitchingOptions,
    execution_config: PyTorchExecutionConfig | None,
) -> tuple[Image, Image, dict[str, Any]]:
    """Train and stitch with the installed package."""
    components = _components(config, execution_config)
    amplitude, phase, results = components.run_cdi_example(
        _training_data(train_data, config),
        _data(test_data),
        _config(config),
        **asdict(stitching),
    )
    _mirror_scale()
    return amplitude, phase, {**results, "backend": "tensorflow"}


def load_inference_bundle(archive: Path) -> tuple[Any, dict[str, Any]]:
    """Load a model with the installed package, which restores its own dictionary."""
    try:
        components = _import("ptycho.workflows.components")
    except BackendUnavailableError as error:
        raise BackendUnavailableError(
            f"{error}; or do without PtychoPINN: `ptychostream convert` makes an archive of ours"
        ) from error
    with _folder_of(archive) as folder:
        model, values = _load(components, folder)
    params.restore(values)
    return model, values


def save_model(directory: Path) -> Path:
    """Save the model that was trained last in this process."""
    directory.mkdir(parents=True, exist_ok=True)
    _import("ptycho.model_manager").save(str(directory))
    return directory / _ARCHIVE


def predict_patches(
    config: InferenceConfig, data: "TrainingData", probe: NDArray[np.complex64]
) -> tuple[NDArray[np.complex64], NDArray[np.float64]]:
    """Predict the object around each group of a scan with a saved model.

    `config`: `model_path` is the folder of the archive, `neighbor_count` the neighbours that a
        group is drawn from; the model's own shape is the archive's.
    `probe` (N, N): illumination, one mode: the package has no more.
    Returns `patches` (B, N, N): the object around each group's centre.
    Returns `centres` (B, 2): the groups' centres (x, y), in pixels, as the scan's positions.
    """
    components = _components(config, None)
    model, values = _load(components, config.model_path)
    raw = _drawn(data, config)
    _import("ptycho.probe").set_probe_guess(None, probe)
    grouped = raw.generate_grouped_data(
        values["N"],
        K=config.neighbor_count,
        nsamples=config.n_groups or len(raw.diff3d),
        gridsize=values["gridsize"],
    )
    loader = _import("ptycho.loader")
    container = loader.load(lambda: grouped, probe, which=None, create_split=False)
    # The archive's own scale; where it holds none, PtychoPINN has computed one.
    scale = values.get(_SCALE)
    if scale is None:
        scale = _import("ptycho.params").get(_SCALE)
    patches = np.asarray(model.predict([container.X * scale, container.local_offsets]))
    centres = np.asarray(container.global_offsets, float).reshape(len(patches), 2)
    return patches[..., 0].astype(np.complex64), centres


def lay_out_archive(archive: Path, folder: Path) -> Path:
    """Copy an archive, or the one inside a zipped model folder, to where the package looks."""
    folder.mkdir()
    with zipfile.ZipFile(archive) as outer:
        inner = [name for name in outer.namelist() if Path(name).name == _ARCHIVE]
        if inner:
            with outer.open(inner[0]) as source, (folder / _ARCHIVE).open("wb") as target:
                shutil.copyfileobj(source, target)
            return folder
    shutil.copyfile(archive, folder / _ARCHIVE)
    return folder


@contextmanager
def _folder_of(archive: Path) -> Iterator[Path]:
    """Yield the folder to load an archive from: its own, or a scratch folder with a copy."""
    with zipfile.ZipFile(archive) as outer:
        is_bare = all(Path(name).name != _ARCHIVE for name in outer.namelist())
    if is_bare and archive.name == _ARCHIVE:
        yield archive.parent
        return
    with tempfile.TemporaryDirectory(prefix="ptychostream-") as scratch:
        yield lay_out_archive(archive, Path(scratch) / "model")


def _load(components: Any, folder: Any) -> tuple[Any, dict[str, Any]]:
    _forget_earlier_run()
    model, values = components.load_inference_bundle(folder)
    return model, values


def _forget_earlier_run() -> None:
    """Drop the intensity scale that PtychoPINN keeps from the process's first model.

    It is a variable in a cache of its module `ptycho.model`: without this, a second training or a
    loaded model computes with the first one's.
    """
    cache = getattr(sys.modules.get("ptycho.model"), "_lazy_cache", None)
    if cache is not None:
        cache.clear()


def _mirror_scale() -> None:
    """Write the intensity scale of this training into our dictionary too."""
    scale = installed_ptycho_cfg().get(_SCALE)
    if scale is not None:
        params.set(_SCALE, scale)


def _components(
    config: TrainingConfig | InferenceConfig, execution_config: PyTorchExecutionConfig | None
) -> Any:
    if execution_config is not None:
        raise ConfigurationError(
            "execution_config belongs to the PyTorch backend; leave it out, or choose "
            "backend='pytorch'"
        )
    # PtychoPINN's modules read its dictionary while they are imported.
    update_installed_ptycho(config)
    # It computes the scale only where there is none: an earlier run's would stay.
    installed_ptycho_cfg().pop(_SCALE, None)
    _forget_earlier_run()
    _refuse_what_it_lacks(config)
    _name_what_it_ignores(config)
    return _import("ptycho.workflows.components")


def _refuse_what_it_lacks(config: TrainingConfig | InferenceConfig) -> None:
    """Refuse options that only the PyTorch backend has: PtychoPINN would ignore them."""
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
    if config.model.architecture in _OUR_NETWORKS:
        raise ConfigurationError(
            f"architecture={config.model.architecture!r} is a network of the PyTorch backend; "
            "choose 'cnn', or backend='pytorch'"
        )


def _name_what_it_ignores(config: TrainingConfig | InferenceConfig) -> None:
    """Warn of options that PtychoPINN's TensorFlow package takes and never reads."""
    for part in (config, config.model):
        default = type(part)()
        for name in IDLE:
            value = getattr(part, name, None)
            if value != getattr(default, name, None):
                logger.warning(
                    "%s=%r does nothing on the TensorFlow backend: PtychoPINN takes it and never "
                    "reads it; choose backend='pytorch' for it",
                    name,
                    value,
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


def _training_data(data: "TrainingData", config: TrainingConfig) -> Any:
    if config.subsample_seed is not None:
        # PtychoPINN draws patterns and groups from NumPy's global generator.
        np.random.seed(config.subsample_seed)  # noqa: NPY002
    return _drawn(data, config)


def _drawn(data: "TrainingData", config: TrainingConfig | InferenceConfig) -> Any:
    """Convert data for PtychoPINN, with the patterns that it would draw when it loads a file."""
    raw = _raw_data(data)
    if raw is None or config.n_subsample is None or config.n_subsample >= len(raw):
        return _data(data)
    if config.subsample_seed is not None:
        # The same draw as in `subsample`: groups are drawn from the state that it leaves.
        np.random.choice(len(raw), config.n_subsample, replace=False)  # noqa: NPY002
    return _data(raw.subsample(config.n_subsample, config.subsample_seed))


def _data(data: "TrainingData | None") -> Any:
    """Convert our data to PtychoPINN's raw data; its own data are returned unchanged."""
    raw = _raw_data(data)
    return data if raw is None else _import("ptycho.raw_data").RawData(**raw.as_arrays())


def _raw_data(data: Any) -> Any:
    """Make raw data of whatever kind of data we have; None for PtychoPINN's own."""
    is_ours = type(data).__module__.partition(".")[0] == "ptychostream"
    if not is_ours and not isinstance(data, str | Path):
        return None
    # Imported late: these modules import torch, which PtychoPINN's own data do not need.
    from ptychostream.datasets.store import GroupStore, open_group_store
    from ptychostream.ptychopinn.raw_data import RawDataTorch
    from ptychostream.scan import Scan

    if isinstance(data, RawDataTorch):
        return data
    if isinstance(data, Scan):
        return RawDataTorch.from_scan(data)
    if isinstance(data, str | Path):
        if not Path(data).is_dir():
            return RawDataTorch.from_file(data)
        data = open_group_store(data)
    if isinstance(data, GroupStore):
        if data.num_experiments > 1:
            raise DataContractError(
                f"'{data.path}' holds {data.num_experiments} experiments, but PtychoPINN's "
                "TensorFlow package trains on one; pass RawDataTorch.from_store(store, experiment)"
            )
        return RawDataTorch.from_store(data)
    raise DataContractError(
        f"the TensorFlow backend takes no {type(data).__name__}; pass a RawDataTorch, a scan, a "
        "store, a path, or PtychoPINN's own data"
    )


def _config(config: Any) -> Any:
    """Convert a configuration to PtychoPINN's class, with the fields that it has."""
    kind = getattr(_import("ptycho.config.config"), type(config).__name__)
    known = {item.name for item in fields(kind)}
    values = {}
    for item in fields(config):
        value = getattr(config, item.name)
        if item.name in known:
            values[item.name] = _config(value) if is_dataclass(value) else value
    if isinstance(config, TrainingConfig) and config.n_groups is None and "n_groups" in known:
        values["n_groups"] = LEGACY_N_GROUPS
    # Already copied to n_groups; keeping it would repeat the deprecation warning.
    values.pop("n_images", None)
    return kind(**values)
