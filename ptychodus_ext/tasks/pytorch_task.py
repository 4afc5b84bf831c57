"""Train and reconstruct with our own implementation, in a child process."""

import logging
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ptychodus_ext.tasks.archive import publish
from ptychodus_ext.tasks.probe_choice import solve_with_probe
from ptychostream.children import Channel
from ptychostream.config import PyTorchExecutionConfig, TrainingConfig, from_mapping
from ptychostream.datasets.store import GroupStore, build_group_store, open_group_store
from ptychostream.geometry import ObjectGrid

logger = logging.getLogger(__name__)


def train(arguments: dict[str, Any], channel: Channel) -> dict[str, Any]:
    """Train a network, and copy its archive to its target.

    `arguments`: `train` and `test` files, `config`, `execution`, a scratch `folder`, and the
        archive's `target`.
    """
    # Imported late: it takes seconds, during which the parent already supervises the child.
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
    """Reports progress within epochs: called after each batch as a check for a stop."""

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
        losses = {
            "train_loss": report.train_loss,
            "val_loss": report.val_loss,
            "misfit": report.misfit,
        }
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
    """Reconstruct a store, from a flat object, an object of the store, or a network's.

    `arguments`: the `model` archive or None, the `store` and its `experiment`, the object's `grid`,
        `execution`, `options` and a `folder` for the results.
    `channel`: receives the progress and, as files, solutions after some passes and the result.
    """
    from ptychostream.persistence import load_bundle
    from ptychostream.reconstruction.reconstruct import reconstruct as reconstruct_with

    if arguments["debug"]:
        logging.getLogger("ptychostream").setLevel(logging.DEBUG)
    store = open_group_store(arguments["store"])
    options, experiment = arguments["options"], arguments["experiment"]
    height, width, origin = arguments["grid"]
    if options.get("start") == "product":
        options["start"] = store.object_guess_of(experiment)
    counts = float(store.total_counts[store.rows(experiment)].mean())
    pictures = _Pictures(channel, Path(arguments["folder"]), counts, options.pop("live_interval"))
    data = (store,) if arguments["model"] is None else (load_bundle(arguments["model"]), store)
    choice = options.pop("probe_from", "product")
    grid = ObjectGrid(height, width, tuple(origin))

    def run(**changes: Any) -> Any:
        pictures.begin()
        return reconstruct_with(
            *data,
            execution=from_mapping(PyTorchExecutionConfig, arguments["execution"]),
            experiment=experiment,
            grid=grid,
            on_progress=_seldom(channel),
            on_pass=pictures.show,
            should_stop=channel.should_stop,
            **{**options, **changes},
        )

    result, warnings = solve_with_probe(
        run,
        store,
        experiment,
        choice=choice,
        options=options,
        grid=grid,
        should_stop=channel.should_stop,
    )
    pictures.send(
        result,
        result.misfit.tolist() or [loss for loss in result.losses if loss > 0],
        positions=None if result.positions_measured is None else result.positions,
        values={
            "is_result": True,
            "warnings": [*warnings, *result.warnings(), *_doubts(result.fit)],
            "misfit": None if result.fit is None else float(result.fit.final),
        },
    )
    return {}


def _doubts(fit: Any) -> list[str]:
    """Warn of a solution that explains hardly anything, also without a certificate."""
    if fit is None:
        return []
    ideal = np.inf if fit.held_out is None else fit.held_out.misfit_ideal
    # With hardly any photons R of the truth itself is large; so much of it is none of photons.
    if fit.final < 10 and not fit.final > max(0.5, 3 * ideal):
        return []
    text = (
        f"object and probe do not explain the patterns (R = {fit.final:.3g}): try another probe "
        "(distance, diameter), the orientation of the patterns, or the sign of the positions"
    )
    logger.warning("%s", text)
    return [text]


class _Pictures:
    """Sends solutions as files, at intervals."""

    def __init__(self, channel: Channel, folder: Path, counts: float, interval_s: float) -> None:
        self._channel, self._folder, self._counts = channel, folder, counts
        self._interval_s, self._next = interval_s, 0.0
        self._misfit: list[float] = []
        self._num_sent = 0

    def begin(self) -> None:
        """Begin the curve of R anew."""
        self._misfit = []

    def show(self, state: Any) -> None:
        """Send the solution after a pass; sending takes a tenth of the time at most."""
        self._misfit.append(state.misfit)
        began = time.monotonic()
        if began < self._next:
            return
        self.send(state, self._misfit, positions=None, values={"is_result": False})
        took = time.monotonic() - began
        self._next = began + max(self._interval_s, 10 * took)

    def send(
        self,
        found: Any,
        misfit: list[float],
        *,
        positions: NDArray[np.float64] | None,
        values: dict[str, Any],
    ) -> None:
        """Save object and probe, which carries the measured counts of a pattern."""
        probe, obj = found.probe, found.object
        factor = np.sqrt(self._counts / np.sum(np.abs(probe, dtype=np.float64) ** 2))
        arrays: dict[str, Any] = {
            "object": (obj / factor).astype(np.complex64),
            "probe": (probe * factor).astype(np.complex64),
            "misfit": np.asarray(misfit, float),
        }
        if positions is not None:
            arrays["positions"] = positions
        self._num_sent += 1
        path = self._folder / f"solution-{self._num_sent}.npz"
        np.savez(path, **arrays)
        self._channel.output(values, {"result": path})


def _seldom(channel: Channel) -> Callable[[int, int], None]:
    """Report progress ten times a second at most: there may be thousands of steps."""
    told = -1.0

    def tell(done: int, total: int) -> None:
        nonlocal told
        if time.monotonic() - told >= 0.1:
            told = time.monotonic()
            channel.progress(done, total)

    return tell
