"""Stitch patches in a thread, while the network predicts the next ones."""

import logging
import time
from collections import deque
from collections.abc import Iterable
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from ptychostream.progress import ProgressMonitor
from ptychostream.reconstruction.predict import Predicted
from ptychostream.stitching import PatchAccumulator, PatchSpool
from ptychostream.stitching.phase_alignment import PhaseAlignment

logger = logging.getLogger(__name__)

#: Batches that wait for the stitching thread, at most.
_WAITING = 2

#: Part of the largest amplitude from which on it counts as saturated.
_SATURATED = 0.99


class Stitcher:
    """Place patches as they come, and find the phases between them.

    `positions` (M, 2): scan positions (x, y) of all patterns, in pixels.
    `centres` (G,): centre of each group, for finding the phases between their patches; None adds
        patches with the phases that they have.
    `scratch_folder`: where patches wait for their phases.
    `amplitude_limit`: the largest amplitude that the network can give.
    `num_saturated`, `num_lit`: pixels at the amplitude's limit, and all pixels that were counted.
    `seconds`: time spent so far in `read`, `predict` and `stitch`, which overlap.
    """

    def __init__(
        self,
        accumulator: PatchAccumulator,
        positions: NDArray[np.float64],
        centres: NDArray[np.int64] | None,
        *,
        scratch_folder: Path | None = None,
        amplitude_limit: float | None = None,
    ) -> None:
        self._accumulator, self._positions = accumulator, positions
        self._alignment: PhaseAlignment | None = None
        self._spool: PatchSpool | None = None
        self._limit = amplitude_limit
        self.seconds = {"read": 0.0, "predict": 0.0, "stitch": 0.0}
        self.num_saturated = self.num_lit = 0
        if centres is not None:
            weight = accumulator.weight
            self._alignment = PhaseAlignment(weight, positions[centres])
            self._spool = PatchSpool(scratch_folder)

    def run(self, predicted: Iterable[Predicted], watch: ProgressMonitor) -> None:
        """Add up patches while the next ones are predicted, to the end or until a stop."""
        pending: deque[Future[None]] = deque()
        with ThreadPoolExecutor(1, thread_name_prefix="ptychostream-stitch") as thread:
            for batch in watch.steps(predicted, lambda batch: len(batch.members)):
                self.seconds["read"] += batch.read_s
                self.seconds["predict"] += batch.predict_s
                pending.append(thread.submit(self._take, batch))
                while len(pending) > _WAITING:
                    pending.popleft().result()
            for future in pending:
                future.result()
        self._finish(watch)

    def close(self) -> None:
        """Delete the scratch file."""
        if self._spool is not None:
            self._spool.close()

    def _take(self, batch: Predicted) -> None:
        began = time.perf_counter()
        patches, members, nodes = batch.patches, batch.members, batch.nodes
        is_even = members[:, 0] % 2 == 0
        placed = self._accumulator.place(patches, self._positions[members], members, is_even)
        if self._limit is not None:
            part = patches[:, 0, self._accumulator.window, self._accumulator.window]
            lit = part[:, self._accumulator.covering.bool()].abs()
            self.num_saturated += int((lit >= _SATURATED * self._limit).sum())
            self.num_lit += lit.numel()
        if self._alignment is None or self._spool is None:
            self._accumulator.add_placed(placed)
        else:
            is_first = not self._spool.size
            self._spool.append(placed, nodes)
            if is_first:
                each = self._spool.size / len(nodes)
                size = int(each * self._alignment.num_patches)
                logger.info(
                    "patches wait in '%s' for the phases between them: %.2g GB",
                    self._spool.folder,
                    size / 1e9,
                )
                self._spool.reserve(size)
            window = self._accumulator.window
            self._alignment.add(patches[:, 0, window, window], nodes)
        self.seconds["stitch"] += time.perf_counter() - began

    def _finish(self, watch: ProgressMonitor) -> None:
        if self._alignment is None or self._spool is None:
            return
        began = time.perf_counter()
        phases = self._alignment.solve()
        for placed in self._spool:
            self._accumulator.add_placed(placed, phases)
            watch.advance(len(np.unique(placed.groups)))
        self.seconds["stitch"] += time.perf_counter() - began
