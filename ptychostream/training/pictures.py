"""Pictures of the reconstruction, written during training."""

from collections.abc import Callable, Iterable
from typing import Any

import lightning
import numpy as np
import torch
from numpy.typing import NDArray
from tensordict import TensorDict
from typing_extensions import override

from ptychostream.config import PyTorchExecutionConfig
from ptychostream.datasets.store import GroupStore
from ptychostream.errors import ConfigurationError
from ptychostream.geometry import object_grid
from ptychostream.physics import intensity
from ptychostream.stitching import PatchAccumulator
from ptychostream.stitching.phase_alignment import PhaseAlignment
from ptychostream.training.tracking import Tracker

#: Serves chosen rows of the group table, in their order.
Serve = Callable[[NDArray[np.int64]], Iterable[TensorDict]]


class ReconstructionLog(lightning.pytorch.callbacks.Callback):
    """Write pictures of some patches, and of the stitched object, every few epochs.

    `seeds` (G,): first member of each group; the first experiment's object is stitched.
    """

    def __init__(
        self,
        execution: PyTorchExecutionConfig,
        store: GroupStore,
        serve: Serve,
        seeds: NDArray[np.int64],
    ) -> None:
        number = len(seeds)
        self._seeds = seeds
        self._execution, self._store, self._serve = execution, store, serve
        fixed = execution.recon_log_fixed_indices
        if fixed is not None:
            self._rows = np.asarray(fixed, dtype=np.int64)
            wrong = [row for row in fixed if not 0 <= row < number]
            if wrong or not fixed:
                raise ConfigurationError(
                    f"recon_log_fixed_indices={fixed}: there are groups 0 … {number - 1}"
                )
        else:
            self._rows = _spread(np.arange(number), execution.recon_log_num_patches)
        first = np.flatnonzero(store.experiment_id[seeds] == 0)
        self._stitched = _spread(first, execution.recon_log_max_stitch_samples or len(first))

    @override
    def on_train_epoch_end(self, trainer: Any, pl_module: Any) -> None:
        every = self._execution.recon_log_every_n_epochs
        assert every is not None
        epoch = trainer.current_epoch + 1
        if epoch % every or not trainer.is_global_zero:
            return
        for tracker in trainer.loggers:
            assert isinstance(tracker, Tracker)
            tracker.log_image("patches", _tiles(self._patches(pl_module)), epoch)
            if self._execution.recon_log_stitch:
                obj, light = self._object(pl_module)
                tracker.log_image("object_amplitude", _grey(np.abs(obj), light), epoch)
                tracker.log_image("object_phase", _grey(np.angle(obj), light), epoch)

    def _patches(self, module: Any) -> NDArray[np.complex64]:
        return np.concatenate([patches[:, 0].cpu().numpy() for patches, _ in self._predict(module)])

    @torch.no_grad()
    def _predict(self, module: Any, rows: NDArray[np.int64] | None = None) -> Any:
        size = module.model.config.group_size
        for batch in self._serve(self._rows if rows is None else rows):
            moved = batch.to(module.device)
            yield module.model(moved).object_patches, batch["nn_indices"][:, :size].numpy()

    def _object(self, module: Any) -> tuple[NDArray[np.complex64], NDArray[np.bool_]]:
        store = self._store
        probe = module.model.scaled_probe(torch.zeros(1, dtype=torch.int64, device=module.device))
        weight = intensity(probe[0]).detach()
        here = store.positions[store.rows(0)]
        accumulator = PatchAccumulator(object_grid(here, store.N), weight, module.device)
        seeds = self._seeds[self._stitched]
        alignment = PhaseAlignment(weight.cpu(), store.positions[seeds])
        at = 0
        for patches, _ in self._predict(module, self._stitched):
            alignment.add(patches[:, 0].cpu(), np.arange(at, at + len(patches)))
            at += len(patches)
        turns = torch.as_tensor(np.exp(1j * alignment.solve()).astype(np.complex64))
        at = 0
        for patches, members in self._predict(module, self._stitched):
            turn = turns[at : at + len(patches), None, None, None].to(module.device)
            rows = members.ravel()
            accumulator.add((patches * turn).flatten(0, 1), store.positions[rows], rows)
            at += len(patches)
        obj, coverage = accumulator.result()
        return obj, coverage > 0


def _spread(rows: NDArray[np.int64], number: int) -> NDArray[np.int64]:
    """Choose rows evenly."""
    at = np.linspace(0, len(rows) - 1, min(number, len(rows))).round().astype(np.int64)
    return rows[at]


def _tiles(patches: NDArray[np.complex64]) -> NDArray[np.uint8]:
    """Amplitudes above, phases below."""
    every = np.ones(patches.shape, dtype=np.bool_)
    rows = [_grey(np.abs(patches), every), _grey(np.angle(patches), every)]
    return np.concatenate([np.concatenate(list(row), axis=1) for row in rows])


def _grey(values: NDArray[np.float32], inside: NDArray[np.bool_]) -> NDArray[np.uint8]:
    low, high = np.percentile(values[inside], [0.5, 99.5]) if inside.any() else (0.0, 1.0)
    scaled = (values - low) / max(high - low, 1e-12)
    return np.asarray(255 * np.clip(scaled, 0, 1) * inside, dtype=np.uint8)
