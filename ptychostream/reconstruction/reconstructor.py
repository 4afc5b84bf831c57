"""Groups to object by a network: shared by whole reconstructions and those of growing scans."""

from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ptychostream.config import PyTorchExecutionConfig
from ptychostream.datasets.batches.scaling import scales_of
from ptychostream.datasets.grouping.table import Groups
from ptychostream.datasets.store import GroupStore
from ptychostream.geometry import ObjectGrid
from ptychostream.models.pinn import PtychoPINN
from ptychostream.persistence.bundle import ModelBundle
from ptychostream.physics import intensity
from ptychostream.progress import ProgressMonitor
from ptychostream.reconstruction.grid import limit_unlit
from ptychostream.reconstruction.options import amplitude_limit, batch_size_for, choose_device
from ptychostream.reconstruction.predict import inference_loader, predict
from ptychostream.reconstruction.probe_power import scale_to_photons
from ptychostream.reconstruction.processes import predict_in_processes
from ptychostream.reconstruction.result import ReconstructionResult
from ptychostream.reconstruction.stitching_thread import Stitcher
from ptychostream.stitching import PatchAccumulator, Placement, WeightName, patch_weight


@dataclass(frozen=True, eq=False)
class Stitched:
    """The sums of the patches of some groups.

    `accumulator`: the sums, in the model's unit, and what was counted.
    `probe` (P, N, N): what lit the object, at its true power.
    `factor`: from the model's unit to transmission.
    `saturation`: share of the lit pixels that have the network's largest amplitude; None where it
        has none.
    `seconds`: time spent in `read`, `predict` and `stitch`, which overlap.
    """

    accumulator: PatchAccumulator
    probe: NDArray[np.complex64]
    factor: float
    saturation: float | None
    seconds: dict[str, float]


@dataclass(frozen=True, eq=False, kw_only=True)
class Reconstructor:
    """A trained model, and how its patches are stitched.

    `align_phases`: whether phases between patches are found.
    `weight`: trust in each patch pixel.
    `rescale_patches`: whether each patch is scaled to fit its own pattern.
    `scratch_folder`: where patches wait for their phases.
    """

    bundle: ModelBundle
    execution: PyTorchExecutionConfig
    experiment: int
    align_phases: bool
    placement: Placement
    weight: WeightName | Tensor
    rescale_patches: bool
    scratch_folder: Path | None

    @cached_property
    def device(self) -> torch.device:
        """Where the network runs."""
        return choose_device(self.execution.accelerator)

    def rows(self, store: GroupStore) -> NDArray[np.int64]:
        """Find the patterns of the experiment.

        Returns (M,): rows of the store.
        """
        return store.rows(self.experiment)

    def model(self, store: GroupStore) -> PtychoPINN:
        """Return the network for the data of a store, on the device."""
        return self.bundle.model.with_probe(store.probe, store.bad_pixels).to(self.device)

    def stitch(
        self,
        store: GroupStore,
        groups: Groups,
        grid: ObjectGrid,
        watch: ProgressMonitor,
        *,
        canvas_folder: Path | None = None,
        keeps_halves: bool = False,
    ) -> Stitched:
        """Predict the patches of groups, and add them up meanwhile."""
        model, execution = self.model(store), self.execution
        with torch.no_grad():
            probe = model.scaled_probe(torch.tensor([self.experiment], device=self.device))[0]
        trust = patch_weight(
            self.weight,
            intensity(probe),
            window=execution.middle_trim,
            fades=self.placement == "fourier",
        )
        accumulator = PatchAccumulator(
            grid,
            trust,
            # An object too large for memory is too large for a device's memory, too.
            self.device if canvas_folder is None else "cpu",
            placement=self.placement,
            scratch_folder=canvas_folder,
            keeps_halves=keeps_halves,
        )
        stitcher = Stitcher(
            accumulator,
            store.positions,
            groups.nn_indices[:, 0] if self.align_phases else None,
            scratch_folder=self.scratch_folder,
            # A patch that is scaled leaves the network's limit.
            amplitude_limit=(
                None if self.rescale_patches else amplitude_limit(self.bundle.config.model)
            ),
        )
        size = execution.inference_batch_size or batch_size_for(
            groups.group_size, store.N, self.device
        )
        if execution.devices > 1 and execution.strategy != "dp":
            predicted = predict_in_processes(
                self.bundle,
                store,
                groups,
                execution,
                size,
                self.device,
                rescales=self.rescale_patches,
                scratch_folder=self.scratch_folder,
            )
        else:
            scales = scales_of(store, self.bundle.config.nphotons)
            loader = inference_loader(store, groups, scales, execution, size, self.device)
            predicted = predict(model, loader, execution, rescales=self.rescale_patches)
        try:
            stitcher.run(predicted, watch)
        finally:
            predicted.close()
            stitcher.close()
        lit = stitcher.num_lit
        return Stitched(
            accumulator,
            *scale_to_photons(
                probe,
                store,
                self.experiment,
                gain=self.bundle.config.model.amplitude_physics_gain,
            ),
            stitcher.num_saturated / lit if lit else None,
            stitcher.seconds,
        )

    def result(
        self,
        store: GroupStore,
        stitched: Stitched,
        grid: ObjectGrid,
        obj: NDArray[np.complex64],
        coverage: NDArray[np.float32],
    ) -> ReconstructionResult:
        """Put an object together with what is known of the data and of its stitching.

        `obj` (H, W): the object, as transmission; clipped in place where no position lights it.
        `coverage` (H, W): patterns that cover each pixel.
        """
        rows, accumulator = self.rows(store), stitched.accumulator
        limit_unlit(obj, coverage)
        return ReconstructionResult(
            object=obj,
            coverage=coverage,
            origin=grid.origin,
            probe=stitched.probe,
            positions=store.positions[rows],
            numbers=store.pattern_numbers(self.experiment),
            num_patches=accumulator.num_patches,
            num_clipped=accumulator.num_clipped,
            num_dropped=accumulator.num_dropped,
            num_duplicates=accumulator.num_duplicates,
            without_patch=rows[~accumulator.has_patch(rows)],
            saturation=stitched.saturation,
            metadata=store.metadata_of(self.experiment),
            losses=tuple(self.bundle.history.get("train_loss", ())),
            seconds=stitched.seconds,
        )
