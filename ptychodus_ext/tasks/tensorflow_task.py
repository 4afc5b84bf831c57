"""Train and reconstruct with the installed TensorFlow package `ptycho`, in a child process."""

import logging
from pathlib import Path
from typing import Any

import numpy as np
import torch

from ptychodus_ext.tasks.archive import publish
from ptychostream.children import Channel
from ptychostream.config import InferenceConfig, TrainingConfig, from_mapping
from ptychostream.datasets.store import open_group_store
from ptychostream.errors import ConfigurationError
from ptychostream.geometry import ObjectGrid
from ptychostream.physics import intensity
from ptychostream.ptychopinn.raw_data import RawDataTorch

logger = logging.getLogger(__name__)


def train(arguments: dict[str, Any], channel: Channel) -> dict[str, Any]:
    """Train a network, and copy its archive to its target.

    `arguments`: `train` and `test` files, `config`, a scratch `folder`, and the archive's `target`.
    `channel`: reports the epochs at the end: the package does not report them earlier.
    """
    from ptychostream.ptychopinn.backends.tensorflow import save_model
    from ptychostream.workflows import train_cdi_model

    if len(arguments["train"]) > 1:
        raise ConfigurationError(
            f"the tensorflow backend trains on one scan, not on {len(arguments['train'])}; keep "
            "one, or set [PtychoStreamModel] Backend = pytorch"
        )
    data = _raw_data(arguments["train"][0])
    held_out = None if arguments["test"] is None else _raw_data(arguments["test"])
    values = arguments["config"]
    values["model"]["N"] = data.scan.N
    config = from_mapping(TrainingConfig, values, origin="the settings")
    results = train_cdi_model(data, held_out, config)
    _tell_losses(results.get("history", {}), channel)
    archive = save_model(Path(arguments["folder"]) / "archive")
    publish(archive, Path(arguments["target"]))
    return {}


def _raw_data(path: str) -> RawDataTorch:
    if Path(path).is_dir():
        return RawDataTorch.from_store(open_group_store(path))
    return RawDataTorch.from_file(path)


def _tell_losses(history: Any, channel: Channel) -> None:
    # Keras returns an object that holds its dictionary.
    losses = getattr(history, "history", history) or {}
    training = list(losses.get("train_loss", losses.get("loss", ())))
    validation = list(losses.get("val_loss", ()))
    for epoch, loss in enumerate(training, 1):
        known = {"epoch": epoch, "train_loss": float(loss)}
        if epoch <= len(validation):
            known["val_loss"] = float(validation[epoch - 1])
        channel.progress(epoch, len(training), known)


def reconstruct(arguments: dict[str, Any], channel: Channel) -> dict[str, Any]:
    """Predict a store's patches, and stitch them on the object's grid.

    `arguments`: the `model` archive, the `store` and its `experiment`, the object's `grid`,
        `neighbor_count`, and a `folder` for the result.
    """
    from ptychostream.ptychopinn.backends.tensorflow import lay_out_archive, predict_patches
    from ptychostream.stitching import PatchAccumulator

    folder, store = Path(arguments["folder"]), open_group_store(arguments["store"])
    experiment = arguments["experiment"]
    raw = RawDataTorch.from_store(store, experiment)
    probe = store.probe[experiment]
    if np.any(probe[1:]):
        logger.warning(
            "the tensorflow backend knows one probe mode: the first of %d is used", len(probe)
        )
    config = InferenceConfig(
        model_path=lay_out_archive(Path(arguments["model"]), folder / "model"),
        neighbor_count=arguments["neighbor_count"],
        backend="tensorflow",
    )
    logger.info("reconstructing with the tensorflow backend")
    patches, centres = predict_patches(config, raw, probe[0])
    height, width, origin = arguments["grid"]
    grid = ObjectGrid(height, width, tuple(origin))
    # Overlapping patches are averaged with the light on them as weight.
    weight = intensity(torch.as_tensor(probe[:1]))
    accumulator = PatchAccumulator(grid, weight, torch.device("cpu"))
    accumulator.add(torch.as_tensor(patches), centres)
    obj = np.asarray(accumulator.result()[0])
    energy = float(store.total_counts[store.rows(experiment)].mean())
    factor = np.sqrt(energy / np.sum(np.abs(probe[0]) ** 2))
    result = folder / "result.npz"
    np.savez(result, object=obj, probe=probe[:1] * np.float32(factor), misfit=np.empty(0))
    channel.output({"is_result": True, "warnings": [], "misfit": None}, {"result": result})
    return {}
