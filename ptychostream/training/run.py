"""A training run with all choices resolved, before anything is computed."""

import hashlib
import logging
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch

from ptychostream.config import PyTorchExecutionConfig, TrainingConfig
from ptychostream.datasets.batches.loader import GroupLoader, make_loader
from ptychostream.datasets.batches.sampler import Order
from ptychostream.datasets.batches.scaling import Scales, scales_of, with_scaling_profile
from ptychostream.datasets.batches.selection import select_groups, split_by_position
from ptychostream.datasets.batches.windows import AHEAD
from ptychostream.datasets.grouping.table import Groups
from ptychostream.datasets.store import GroupStore
from ptychostream.training.checkpoints import find_checkpoint
from ptychostream.training.checks import lacks_held_out_neighbour

logger = logging.getLogger(__name__)

#: The order of groups: mixed to train on, as they are stored to evaluate.
_ORDERS: dict[str, Order] = {"train": "shuffled", "validation": "storage"}


@dataclass(frozen=True, eq=False)
class Part:
    """Groups of a store, and the factors on its amplitudes."""

    store: GroupStore
    scales: Scales
    groups: Groups


@dataclass(frozen=True, eq=False, kw_only=True)
class TrainingRun:
    """A training run with everything decided.

    `requested`: as the archive keeps it: with the scaling profile of the data.
    `config`: as it is trained: without a loss that the data are too few for.
    `parts`: `train`, and `validation` where the loss is watched on other groups.
    """

    requested: TrainingConfig
    config: TrainingConfig
    execution: PyTorchExecutionConfig
    parts: Mapping[str, Part]
    checkpoint: Path | None

    @property
    def store(self) -> GroupStore:
        """The data that are trained on."""
        return self.parts["train"].store

    @property
    def intensity_scale(self) -> float:
        """The amplitudes' scale, for the archive."""
        return float(self.parts["train"].scales.intensity_scale.mean())

    @property
    def monitor(self) -> str:
        """The logged loss that schedules, early stopping and checkpoints use."""
        asked = self.execution.checkpoint_monitor_metric
        has_none = "validation" not in self.parts and asked == "val_loss"
        return "train_loss" if has_none else asked

    @property
    def data_name(self) -> str:
        """Identify the data by their positions and counts."""
        store = self.store
        digest = hashlib.sha256(store.positions.tobytes() + store.total_counts.tobytes())
        return digest.hexdigest()

    def loader(self, part: str, rank: int, world_size: int, device: torch.device) -> GroupLoader:
        """Make the loader of one process for a part."""
        return self.serve(self.parts[part], _ORDERS[part], rank, world_size, device)

    def serve(
        self, part: Part, order: Order, rank: int, world_size: int, device: torch.device
    ) -> GroupLoader:
        """Make the loader of one process for any groups."""
        loader = make_loader(
            part.store,
            part.groups,
            batch_size=self.config.batch_size,
            order=order,
            seed=self.config.subsample_seed or 0,
            memory_budget=self.execution.memory_budget,
            scales=part.scales,
            num_threads=self.execution.num_workers,
            ahead=self.execution.prefetch_factor or AHEAD,
            rank=rank,
            world_size=world_size,
        )
        return loader.to(device, pins=self.execution.pin_memory)


def resolve_run(
    config: TrainingConfig,
    store: GroupStore,
    validation: GroupStore | None,
    execution: PyTorchExecutionConfig,
    resume_from: str | Path | None,
) -> TrainingRun:
    """Decide everything that the data decide."""
    requested = with_scaling_profile(config, store)
    checkpoint = None if resume_from is None else find_checkpoint(resume_from)
    resolved = _without_held_out(requested, store, validation)
    return TrainingRun(
        requested=requested,
        config=resolved,
        execution=execution,
        parts=_parts(resolved, store, validation),
        checkpoint=checkpoint,
    )


def training_groups(config: TrainingConfig, store: GroupStore) -> Groups:
    """Find the groups that a configuration trains on."""
    positions = int(np.bincount(store.experiment_id).min())
    spare = min(positions, config.n_subsample or positions) - config.model.group_size
    return select_groups(store, config, held_out=max(0, min(config.num_held_out, spare)))


def _without_held_out(
    config: TrainingConfig, store: GroupStore, validation: GroupStore | None
) -> TrainingConfig:
    """Set `overlap_weight` to 0 where an experiment is too small for a held-out neighbour."""
    if config.overlap_share and any(
        lacks_held_out_neighbour(config, d) for d in (store, validation) if d
    ):
        logger.info("too few positions for a neighbour that tests each group: overlap_weight is 0")
        return replace(config, n_images=None, overlap_weight=0.0)
    return config


def _parts(
    config: TrainingConfig, store: GroupStore, validation: GroupStore | None
) -> dict[str, Part]:
    """Divide the data into a part for training and one for validation."""
    scales = scales_of(store, config.nphotons, config.scale_contract_version)
    groups = training_groups(config, store)
    if config.validation_fraction:
        training, held_out = split_by_position(groups, store, config.validation_fraction)
        return {
            "train": Part(store, scales, training),
            "validation": Part(store, scales, held_out),
        }
    parts = {"train": Part(store, scales, groups)}
    if validation is not None:
        # Patterns are scaled by the counts of their own store: it may be brighter.
        own = scales_of(validation, config.nphotons, config.scale_contract_version)
        parts["validation"] = Part(validation, own, training_groups(config, validation))
    return parts
