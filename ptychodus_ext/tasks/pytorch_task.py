"""Train and reconstruct with our own implementation, in a child process."""

import logging
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from ptychodus_ext.tasks.archive import publish
from ptychostream.children import Channel
from ptychostream.config import PyTorchExecutionConfig, TrainingConfig, from_mapping
from ptychostream.datasets.store import GroupStore, build_group_store, open_group_store
from ptychostream.geometry import ObjectGrid
from ptychostream.reconstruction.result import ReconstructionResult

logger = logging.getLogger(__name__)


def train(arguments: dict[str, Any], channel: Channel) -> dict[str, Any]:
    """Train a network, and leave its archive where it is wanted.

    Parameters
    ----------
    arguments : dict
        `train` and `test` files, `config`, `execution`, a scratch `folder`, and the archive's
        `target`.
    """
    # Imported here: it takes seconds, in which the parent already watches.
    from ptychostream.persistence import save_bundle
    from ptychostream.training.train import train as train_on

    folder = Path(arguments["folder"])
    store = _store(arguments["train"], folder / "train.zarr")
    held_out = arguments["test"]
    validation = _store([held_out], folder / "test.zarr") if held_out else None
    values = arguments["config"]
    values["model"]["N"] = store.N
    config = from_mapping(TrainingConfig, values, origin="the settings")
    execution = from_mapping(PyTorchExecutionConfig, arguments["execution"])

    batches = _Batches(channel, config.nepochs, -(-store.num_patterns // config.batch_size))
    bundle = train_on(
        config,
        store,
        validation=validation,
        execution=execution,
        on_epoch=batches.end_epoch,
        should_stop=batches.should_stop,
    )
    publish(save_bundle(bundle, folder / "archive"), Path(arguments["target"]))
    return {}


class _Batches:
    """Tells of the progress within epochs: training asks after each batch whether to stop."""

    def __init__(self, channel: Channel, num_epochs: int, expected: int) -> None:
        self._channel, self._num_epochs = channel, num_epochs
        #: Batches of an epoch: an estimate in the first one, then as many as that had.
        self._expected, self._done, self._epoch = expected, 0, 0
        self._tell = _seldom(channel)

    def should_stop(self) -> bool:
        self._done += 1
        share = min(1000 * self._done // self._expected, 999)
        self._tell(1000 * self._epoch + share, 1000 * self._num_epochs)
        return self._channel.should_stop()

    def end_epoch(self, report: Any) -> None:
        losses = {"train_loss": report.train_loss, "val_loss": report.val_loss}
        known = {name: float(loss) for name, loss in losses.items() if loss is not None}
        self._epoch = report.epoch
        self._expected, self._done = max(self._done, 1), 0
        values = {"epoch": report.epoch, **known}
        self._channel.progress(1000 * report.epoch, 1000 * self._num_epochs, values)


def _store(paths: list[str], scratch: Path) -> GroupStore:
    if len(paths) == 1 and Path(paths[0]).is_dir():
        return open_group_store(paths[0])
    return build_group_store([Path(path) for path in paths], scratch, progress=False)


def reconstruct(arguments: dict[str, Any], channel: Channel) -> dict[str, Any]:
    """Reconstruct a store with a trained network.

    Parameters
    ----------
    arguments : dict
        The `model` archive, the `store` and its `experiment`, the object's `grid`, `execution`,
        options, and a `folder` for the result.
    channel : Channel
        Hears of the progress, and receives the result as a file.
    """
    from ptychostream.persistence import load_bundle
    from ptychostream.reconstruction.reconstruct import reconstruct as reconstruct_with

    if arguments["debug"]:
        logging.getLogger("ptychostream").setLevel(logging.DEBUG)
    bundle = load_bundle(arguments["model"])
    store = open_group_store(arguments["store"])
    height, width, origin = arguments["grid"]
    result = reconstruct_with(
        bundle,
        store,
        execution=from_mapping(PyTorchExecutionConfig, arguments["execution"]),
        experiment=arguments["experiment"],
        align_phases=arguments["align_phases"],
        passes=arguments["refine_passes"],
        grid=ObjectGrid(height, width, tuple(origin)),
        on_progress=_seldom(channel),
        should_stop=channel.should_stop,
    )
    energy = float(store.total_counts[store.rows(arguments["experiment"])].mean())
    channel.output(
        {"is_partial": result.is_partial},
        {"result": _write(result, energy, Path(arguments["folder"]) / "result.npz")},
    )
    return {}


def _seldom(channel: Channel) -> Callable[[int, int], None]:
    """Tell of progress ten times a second at most: there may be thousands of steps."""
    told = -1.0

    def tell(done: int, total: int) -> None:
        nonlocal told
        if time.monotonic() - told >= 0.1:
            told = time.monotonic()
            channel.progress(done, total)

    return tell


def _write(result: ReconstructionResult, energy: float, path: Path) -> Path:
    """Save object, probe and losses; the probe carries the measured counts of a pattern."""
    factor = np.sqrt(energy / np.sum(np.abs(result.probe, dtype=np.float64) ** 2))
    np.savez(
        path,
        object=(result.object / factor).astype(np.complex64),
        probe=(result.probe * factor).astype(np.complex64),
        losses=np.asarray(result.losses, float),
    )
    return path
