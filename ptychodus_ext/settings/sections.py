"""The groups of settings, and the configurations that they stand for."""

from collections.abc import Iterator, Mapping
from dataclasses import fields, replace
from pathlib import Path
from typing import Any

from ptychodus.api.observer import Observable, Observer
from ptychodus.api.parameters import Parameter, ParameterGroup
from ptychodus.api.settings import SettingsRegistry

from ptychodus_ext.settings.fields import Setting, settings_of
from ptychodus_ext.settings.options import (
    BackendOptions,
    ReconstructOptions,
    SolverSettings,
    StoreOptions,
)
from ptychostream.config import (
    InferenceConfig,
    ModelConfig,
    PyTorchExecutionConfig,
    TrainingConfig,
    from_mapping,
)

#: Fields with values from elsewhere: from the patterns, the reconstructor, the folders that
#: ptychodus gives, or another setting of the same meaning.
_KNOWN = {
    "N",
    "model_type",
    "train_data_file",
    "test_data_file",
    "output_dir",
    "n_images",
    "backend",
    "enable_progress_bar",
}

#: How data are drawn, grouped and read: the same for training and for inference.
_GROUPING = (
    "n_groups",
    "n_subsample",
    "subsample_seed",
    "neighbor_count",
    "enable_oversampling",
    "neighbor_pool_size",
    "sequential_sampling",
    "positions_provided",
)
_READING = ("memory_budget", "num_workers")
_RUNNING = ("accelerator", "inference_batch_size", "middle_trim", "pad_eval")
#: Fields of the execution for which training has its own, and one that changes nothing.
_SPARE = ("gradient_clip_val", "gradient_clip_algorithm", "scheduler", "persistent_workers")
#: What can be chosen as architecture; `auto` is the best of the backend that is set.
ARCHITECTURES = ("auto", "unrolled", "cnn", "fast", "fno", "ffno")
_BEST = {"pytorch": "unrolled", "tensorflow": "cnn"}


def _table() -> dict[str, list[Setting]]:
    model = settings_of(ModelConfig, without=_KNOWN)
    model["architecture"] = replace(
        model["architecture"],
        default="auto",
        choices=ARCHITECTURES,
        meaning="The network: unrolled starts from the physics, cnn is PtychoPINN's, fast is "
        "small, fno and ffno work on Fourier modes; auto takes unrolled, and cnn for the "
        "tensorflow backend.",
    )
    # The probes that an application begins with are guesses, and two epochs of the default
    # network are enough: about a minute for 400 patterns.
    training = settings_of(
        TrainingConfig, without=_KNOWN, defaults={"probe_trainable": True, "nepochs": 2}
    )
    execution = settings_of(PyTorchExecutionConfig, without=_KNOWN)
    inference = settings_of(InferenceConfig, without=_KNOWN)
    elsewhere = {*_GROUPING, *_READING}
    return {
        "PtychoStreamSolver": [*settings_of(SolverSettings).values()],
        "PtychoStreamModel": [
            *settings_of(BackendOptions).values(),
            *model.values(),
        ],
        "PtychoStreamTraining": [
            *(s for name, s in training.items() if name not in elsewhere),
            *(
                s
                for name, s in execution.items()
                if name not in {*elsewhere, *_RUNNING[1:], *_SPARE}
            ),
        ],
        "PtychoStreamInference": [
            *(s for name, s in inference.items() if name in ("model_path", "debug")),
            *settings_of(ReconstructOptions).values(),
            *(execution[name] for name in _RUNNING),
        ],
        "PtychoStreamData": [
            *settings_of(StoreOptions).values(),
            *(training[name] for name in _GROUPING),
            *(execution[name] for name in _READING),
        ],
    }


class SettingsGroup(Observable, Observer):
    """One group of settings, which ptychodus saves and loads with its own."""

    def __init__(self, registry: SettingsRegistry, name: str, settings: list[Setting]) -> None:
        super().__init__()
        self.name = name
        self._settings = {setting.field: setting for setting in settings}
        self._group = registry.create_group(name)
        self._parameters = {s.field: _create(self._group, s) for s in settings}
        self._group.add_observer(self)

    def __iter__(self) -> Iterator[tuple[Setting, Parameter[Any]]]:
        for field, setting in self._settings.items():
            yield setting, self._parameters[field]

    def __getitem__(self, field: str) -> Parameter[Any]:
        return self._parameters[field]

    def setting(self, field: str) -> Setting:
        """Return the description of a setting."""
        return self._settings[field]

    def values(self) -> dict[str, Any]:
        """Read all settings."""
        return {
            field: setting.to_field(self._parameters[field].get_value())
            for field, setting in self._settings.items()
        }

    def _update(self, observable: Observable) -> None:
        if observable is self._group:
            self.notify_observers()


class StreamSettings:
    """All settings of the library."""

    def __init__(self, registry: SettingsRegistry) -> None:
        groups = {
            name: SettingsGroup(registry, name, settings) for name, settings in _table().items()
        }
        self.solver = groups["PtychoStreamSolver"]
        self.model = groups["PtychoStreamModel"]
        self.training = groups["PtychoStreamTraining"]
        self.inference = groups["PtychoStreamInference"]
        self.data = groups["PtychoStreamData"]

    def __iter__(self) -> Iterator[SettingsGroup]:
        yield from (self.solver, self.model, self.training, self.inference, self.data)

    @property
    def backend(self) -> str:
        """The backend of the next run."""
        return str(self.model.values()["backend"])

    @property
    def store_path(self) -> Path | None:
        """The store that takes the place of loaded patterns."""
        path = self.data.values()["store_path"]
        return None if path is None else Path(path)

    @property
    def model_path(self) -> Path | None:
        """The model that is used where none was loaded or trained."""
        path = self.inference.values()["model_path"]
        return None if path is None else Path(path)

    def training_config(self, model_type: str, edge: int, output_dir: Path) -> TrainingConfig:
        """Make the configuration of a training run, checked."""
        values = {**self.training.values(), **self.data.values()}
        model = {**_only(ModelConfig, self.model.values()), "N": edge, "model_type": model_type}
        if model["architecture"] == "auto":
            model["architecture"] = _BEST[self.backend]
        if model_type == "supervised":
            # It compares with labels, not through the probe.
            values["probe_trainable"] = False
        return from_mapping(
            TrainingConfig,
            {
                **_only(TrainingConfig, values),
                "model": model,
                "backend": self.backend,
                "output_dir": output_dir,
            },
            origin="the settings",
        )

    def execution(self, group: SettingsGroup) -> PyTorchExecutionConfig:
        """Make the configuration of where and how fast, checked."""
        values = _only(PyTorchExecutionConfig, {**group.values(), **self.data.values()})
        for name in _SPARE:
            values.pop(name, None)
        return from_mapping(PyTorchExecutionConfig, values, origin="the settings")


def _only(kind: type, values: Mapping[str, Any]) -> dict[str, Any]:
    names = {item.name for item in fields(kind)}
    return {name: value for name, value in values.items() if name in names}


def _create(group: ParameterGroup, setting: Setting) -> Parameter[Any]:
    bounds: Any = {"minimum": setting.minimum, "maximum": setting.maximum}
    if setting.kind is bool:
        return group.create_boolean_parameter(setting.key, setting.default)
    if setting.kind is int:
        return group.create_integer_parameter(setting.key, setting.default, **bounds)
    if setting.kind is float:
        return group.create_real_parameter(setting.key, setting.default, **bounds)
    if setting.kind is Path:
        return group.create_path_parameter(setting.key, setting.default)
    return group.create_string_parameter(setting.key, setting.default)
