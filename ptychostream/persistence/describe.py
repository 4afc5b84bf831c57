"""Describe a model archive or a checkpoint without loading the weights."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from ptychostream.persistence.entries import Members
from ptychostream.persistence.open_archive import (
    Kind,
    backend_of,
    find_archive,
    is_checkpoint,
    kind_of,
    open_archive,
    read_dictionary,
    read_manifest,
)

#: Options that decide the CNN's layers.
_CNN_OPTIONS = ("n_filters_scale", "amp_activation", "object_big", "probe_big", "pad_object")

#: Names and values, in the order in which they are shown.
Lines = list[tuple[str, str]]


def describe_model(path: Path) -> Lines:
    """Describe a trained model on disk.

    `path`: an archive, its folder, a zip file of that, or a checkpoint.
    """
    path = find_archive(path)
    if is_checkpoint(path):
        return _checkpoint(path)
    with open_archive(path) as members:
        kind = kind_of(members)
        lines = [("model archive", members.origin.replace("'", "")), *_DESCRIBE[kind](members)]
        lines.insert(1, ("backend", backend_of(kind)))
        size = ", ".join(f"{name} {_bytes(count)}" for name, count in members.sizes.items())
        return [*lines, ("members", size)]


def _native(members: Members) -> Lines:
    from ptychostream.persistence.index import read_index

    index = read_index(members)
    version = ".".join(map(str, index["version"]))
    wrote = f"{index.get('written_by')}, format {version}"
    made_by = index.get("provenance", {}).get("made_by")
    lines = [("written by", wrote), *_settings(index["config"], index.get("parameters"))]
    lines += _training(index["config"], index["history"])
    lines.append(("intensity scale", f"{index['intensity_scale']:.5g}"))
    if "probe" in index:
        experiments, modes = index["probe"]["modes"]
        lines.append(("probe", f"{modes} mode(s) of {experiments} experiment(s)"))
    if "models" in index:
        said = (f"{name} ({', '.join(m['outputs'])})" for name, m in index["models"].items())
        lines.append(("models", ", ".join(said)))
    if "versions" in index:
        said = (f"{name} {number}" for name, number in index["versions"].items())
        lines.append(("versions", ", ".join(said)))
    return [*lines, ("made from", str(made_by))] if made_by else lines


def _tensorflow(members: Members) -> Lines:
    from ptychostream.config import to_mapping
    from ptychostream.persistence.ptychopinn.tensorflow_archive import (
        check_light,
        count_parameters,
        read_settings,
    )

    manifest = read_manifest(members)
    model, config, values, _ = read_settings(members)
    check_light(members, model, values, config.model.N)
    probe = values["probe"]
    described = f"{members.origin}: member '{model}/params.dill'"
    return [
        ("written by", f"PtychoPINN, TensorFlow backend, format {manifest['version']}"),
        *_settings(to_mapping(config), count_parameters(config.model, described)),
        ("epochs", f"{config.nepochs} asked for; the losses are not in the archive"),
        ("intensity scale", f"{float(values['intensity_scale']):.5g}"),
        ("probe", f"{' x '.join(map(str, np.shape(probe)))} px"),
        ("models", ", ".join(map(str, _items(manifest["models"])))),
        ("read from", f"{model}/model.keras"),
        ("to use it", "ptychostream convert OLD.zip NEW.zip; load_bundle reads it as it is too"),
    ]


def _ptychopinn_port(members: Members) -> Lines:
    manifest = read_manifest(members)
    lines = [("written by", f"PtychoPINN, PyTorch backend, format {manifest['version']}")]
    for name in members.sizes:
        if name.endswith("/params.dill"):
            lines += _settings(read_dictionary(members, name), None)
            break
    lines.append(("models", ", ".join(map(str, _items(manifest["models"])))))
    return [*lines, ("to use it", "ptychostream convert OLD.zip NEW.zip --probe SCAN")]


def _checkpoint(path: Path) -> Lines:
    from ptychostream.persistence.checkpoint import read_description

    about = read_description(path)
    return [
        ("checkpoint", str(path)),
        ("backend", "pytorch"),
        ("written by", f"ptychostream; epoch {about['epoch']}, step {about['step']}"),
        *_settings(about["config"], about["parameters"]),
        *_training(about["config"], about["history"]),
        ("intensity scale", f"{about['intensity_scale']:.5g}"),
    ]


def _settings(config: Mapping[str, Any], parameters: int | None) -> Lines:
    model = config.get("model")
    if not isinstance(model, Mapping):
        model = config
    count = "" if parameters is None else f", {parameters} parameters"
    lines = [
        ("architecture", f"{model.get('architecture')}{count}"),
        ("patches", f"N {model.get('N')}, gridsize {model.get('gridsize')}"),
    ]
    if model.get("architecture") == "cnn":
        said = (f"{name} {model[name]}" for name in _CNN_OPTIONS if name in model)
        lines.append(("options", ", ".join(said)))
    return lines


def _training(config: Mapping[str, Any], history: Mapping[str, Any]) -> Lines:
    losses = history.get("train_loss", [])
    said = [f"last {name} {values[-1]:.5g}" for name, values in history.items() if values]
    lines = [("epochs", ", ".join([str(len(losses)), *said]))]
    if config.get("train_data_file"):
        lines.append(("trained on", str(config["train_data_file"])))
    return lines


def _items(value: Any) -> list[Any]:
    return list(value) if isinstance(value, list | tuple) else [value]


def _bytes(count: int) -> str:
    return f"{count} B" if count < 2**20 else f"{count / 2**20:.1f} MiB"


_DESCRIBE: dict[Kind, Any] = {
    "ptychostream": _native,
    "tensorflow": _tensorflow,
    "ptychopinn-torch": _ptychopinn_port,
}
