"""Fill batches from decoded windows: gather patterns, take roots, add what belongs to a group."""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from tensordict import TensorDict
from torch import Tensor

from ptychostream.datasets.batches.scaling import Scales
from ptychostream.datasets.batches.windows import DecodedWindow
from ptychostream.datasets.grouping.table import Groups
from ptychostream.datasets.store.group_store import GroupStore
from ptychostream.geometry import split_coordinates
from ptychostream.scan import to_amplitude


@dataclass(frozen=True)
class Target:
    """Where batches go.

    Attributes
    ----------
    windows : torch.device, optional
        Where torch gathers batches from windows; None is the host's memory, by NumPy.
    pins : bool
        Whether windows go to a GPU through page-locked memory.
    """

    device: torch.device
    windows: torch.device | None
    pins: bool


class BatchFiller:
    """Makes batches of groups, whose patterns are in windows."""

    def __init__(self, store: GroupStore, groups: Groups, scales: Scales, target: Target) -> None:
        self._store, self._table, self._scales = store, groups.nn_indices, scales
        self._target = target
        self._has_bad_pixels = bool(store.bad_pixels.any())

    def batches(self, windows: Iterator[DecodedWindow], sizes: list[int]) -> Iterator[TensorDict]:
        """Yield batches of these sizes; a batch may end in the window after its first one."""
        window: DecodedWindow | None = None
        at = 0
        for size in sizes:
            rows = np.empty(size, dtype=np.int64)
            parts: list[Tensor] = []
            filled = 0
            while filled < size:
                if window is None or at == len(window.groups):
                    # Released before the next one begins, so that no third window is in memory.
                    window = None
                    window, at = next(windows), 0
                take = min(size - filled, len(window.groups) - at)
                part = rows[filled : filled + take] = window.groups[at : at + take]
                parts.append(self._amplitude(window, part))
                filled, at = filled + take, at + take
            yield self._batch(rows, parts[0] if len(parts) == 1 else torch.cat(parts))

    def _amplitude(self, window: DecodedWindow, rows: NDArray[np.integer]) -> Tensor:
        """Gather the amplitudes (B, C, N, N) of groups for a batch; bad pixels are zero."""
        store, target = self._store, self._target
        members = self._table[rows]
        chunk, inside = np.divmod(store.storage_rows[members.ravel()], store.patterns_per_chunk)
        shape = (*members.shape, store.N, store.N)
        if target.windows is None:
            raw = np.empty(shape, window.dtype)
            window.gather(chunk, inside, raw.reshape(-1, store.N, store.N))
            if window.has_amplitudes:
                values = torch.from_numpy(raw)
            else:
                values = torch.from_numpy(to_amplitude(raw, store.measurement_domain))
        else:
            values = window.gather_on(target.windows, chunk, inside, pins=target.pins)
            values = values.reshape(shape)
            if store.measurement_domain == "counts" and not window.has_amplitudes:
                values.sqrt_()
        if self._has_bad_pixels:
            bad = torch.from_numpy(store.bad_pixels[self._experiment(members)][:, None])
            values.masked_fill_(bad.to(values.device), 0)
        return values.to(target.device)

    def _experiment(self, members: NDArray[np.int64]) -> NDArray[np.int64]:
        return self._store.experiment_id[members[:, 0]]

    def _batch(self, rows: NDArray[np.int64], amplitude: Tensor) -> TensorDict:
        members, device = self._table[rows], self._target.device
        experiment = self._experiment(members)
        # Computed for each batch: a table for all groups would be the largest of all.
        offsets, relative = split_coordinates(self._store.positions, members)
        entries = {
            "coords_offsets": offsets[:, None, None].astype(np.float32),
            "coords_relative": relative[:, :, None].astype(np.float32),
            "nn_indices": members,
            "experiment_id": experiment,
            "rms_scale": self._scales.rms[experiment, None, None, None].astype(np.float32),
            "physics_scale": self._scales.physics[experiment, None, None, None].astype(np.float32),
        }
        tensors = {name: torch.from_numpy(value) for name, value in entries.items()}
        tensors["diffraction"] = amplitude
        if device.type != "cpu":
            tensors = {name: value.to(device) for name, value in tensors.items()}
        return TensorDict(tensors, batch_size=[len(rows)], device=device)
