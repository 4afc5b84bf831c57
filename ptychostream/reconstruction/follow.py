"""Follow a growing store: the object so far, while the scan is still running."""

import logging
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from ptychostream.datasets.store import GroupStore
from ptychostream.errors import ConfigurationError
from ptychostream.geometry import ObjectGrid
from ptychostream.physics import UNLIT
from ptychostream.progress import ProgressMonitor
from ptychostream.reconstruction.grid import choose_grid
from ptychostream.reconstruction.groups import groups_of
from ptychostream.reconstruction.reconstructor import Reconstructor
from ptychostream.reconstruction.result import ReconstructionResult
from ptychostream.stitching import PatchAccumulator

logger = logging.getLogger(__name__)

#: Longest time between two looks at the store, and between two checks for a stop, in seconds.
_LOOK = 0.2


#: Looks in a row, each with more patterns than the one before, after which it is said.
_BEHIND = 3


class LiveObject:
    """The sum of what was stitched so far, on a grid that grows with the scan.

    The global phase of each part is unknown: it is turned to agree with the object so far.
    """

    def __init__(self) -> None:
        self.grid = ObjectGrid(0, 0)
        self._total = np.zeros((0, 0), np.complex64)
        self._cover = np.zeros((0, 0), np.float32)
        self._count = np.zeros((0, 0), np.float32)

    def add(self, part: PatchAccumulator, grid: ObjectGrid, factor: float) -> None:
        """Add what was stitched of the newest patterns."""
        self._enlarge(grid)
        total, cover = part.sums()
        known = (self._cover > UNLIT) & (cover > UNLIT)
        agreement = np.vdot(total[known] * self._cover[known], self._total[known] * cover[known])
        turn = np.exp(1j * np.angle(agreement)) if known.any() else 1.0
        self._total += (factor * turn * total).astype(np.complex64)
        self._cover += cover
        self._count += part.result()[1]

    def result(self) -> tuple[NDArray[np.complex64], NDArray[np.float32]]:
        """Return object and coverage (H, W) so far; copies."""
        known = self._cover > UNLIT
        obj = np.divide(self._total, self._cover, out=np.zeros_like(self._total), where=known)
        return obj, self._count.copy()

    def _enlarge(self, grid: ObjectGrid) -> None:
        if grid == self.grid:
            return
        left, top = (int(a - b) for a, b in zip(self.grid.origin, grid.origin, strict=True))
        for name in ("_total", "_cover", "_count"):
            old = getattr(self, name)
            new = np.zeros(grid.shape, old.dtype)
            new[top : top + old.shape[0], left : left + old.shape[1]] = old
            setattr(self, name, new)
        self.grid = grid


class Live(Protocol):
    """What shows an object before its scan is complete."""

    @property
    def least(self) -> int:
        """Patterns that a first object needs."""

    @property
    def goes_on(self) -> bool:
        """Whether another look improves the object, without new patterns."""

    def rows(self, store: GroupStore) -> NDArray[np.int64]:
        """Return the rows (M,) of the store that are used."""

    def look(self, store: GroupStore, done: int, watch: ProgressMonitor) -> ReconstructionResult:
        """Return the object so far; rows before `done` were there at the last look."""

    def finish(self, store: GroupStore) -> ReconstructionResult:
        """Return the object of the complete store."""


def follow_store(
    live: Live,
    store: GroupStore,
    *,
    interval_s: float,
    should_stop: Callable[[], bool] | None,
) -> Iterator[ReconstructionResult]:
    """Reconstruct a store while it grows.

    `should_stop`: asked several times a second; True ends following with what there is.
    Yields the object so far, marked as partial; at the end that of the finished store.
    """
    if interval_s <= 0:
        raise ConfigurationError(f"interval_s={interval_s} must be positive")
    done, last, pace = 0, -np.inf, Pace()
    with ProgressMonitor(should_stop=should_stop) as watch:
        while True:
            # Check `is_complete` before refreshing, or the last segment could be missed.
            is_complete = store.is_complete
            store = store.refreshed()
            rows = live.rows(store)
            if is_complete and not watch.asks_to_stop():
                break
            is_new = bool((rows >= done).any()) or (done and live.goes_on)
            is_due = time.perf_counter() - last >= interval_s
            if is_new and is_due and len(rows) >= live.least:
                began = time.perf_counter()
                result = live.look(store, done, watch)
                pace.note(int((rows >= done).sum()), time.perf_counter() - began, interval_s)
                done, last = store.num_patterns, time.perf_counter()
                yield result
            if watch.asks_to_stop():
                return
            time.sleep(min(_LOOK, interval_s))
    logger.info("the store is finished: reconstructing all %d patterns", len(rows))
    yield live.finish(store)


class Pace:
    """Say once that patterns come faster than they are shown.

    A look takes all patterns that came since the last one: where looks fall behind they become
    fewer and larger, and no pattern is lost.
    """

    def __init__(self) -> None:
        self._before, self._growing, self.is_told = 0, 0, False

    def note(self, number: int, seconds: float, interval_s: float) -> None:
        """Take note of the new patterns of a look, and of the time that it took."""
        falls_behind = seconds > interval_s and number > 1.2 * self._before > 0
        self._growing = self._growing + 1 if falls_behind else 0
        if self._growing >= _BEHIND and not self.is_told:
            self.is_told = True
            logger.warning(
                "patterns come faster than they are shown: %d were shown in %.1f s while more came "
                "than that. The picture comes more seldom than every %g s; every pattern will be "
                "in it",
                number,
                seconds,
                interval_s,
            )
        self._before = number


class LiveStitching:
    """Stitch the network's patches of new patterns to the object so far."""

    goes_on = False

    def __init__(
        self,
        recipe: Reconstructor,
        *,
        grid: ObjectGrid | None,
        finish: Callable[[GroupStore], ReconstructionResult],
    ) -> None:
        execution = recipe.execution
        if execution.devices > 1 and execution.strategy != "dp":
            raise ConfigurationError(
                f"devices={execution.devices} needs strategy='dp' while following a store; or use 1"
            )
        self._recipe, self._grid, self.finish = recipe, grid, finish
        self._object = LiveObject()
        self._so_far: ReconstructionResult | None = None
        # Groups need neighbours, and a fit of the phases needs some patches.
        self.least = max(recipe.bundle.config.neighbor_count + 1, 2)

    def rows(self, store: GroupStore) -> NDArray[np.int64]:
        return self._recipe.rows(store)

    def look(self, store: GroupStore, done: int, watch: ProgressMonitor) -> ReconstructionResult:
        """Stitch the groups around patterns from row `done` on, and add them."""
        began, recipe, live = time.perf_counter(), self._recipe, self._object
        rows = recipe.rows(store)
        here = self._grid or _union(
            choose_grid(store, recipe.experiment, store.positions[rows], pads=True), live.grid
        )
        groups = groups_of(store, recipe.experiment, recipe.bundle.config, None)
        groups = replace(groups, nn_indices=groups.nn_indices[groups.nn_indices[:, 0] >= done])
        stitched = recipe.stitch(store, groups, here, watch)
        live.add(stitched.accumulator, here, stitched.factor)
        result = recipe.result(store, stitched, here, *live.result())
        result = replace(
            result,
            # Earlier patterns are in the object already; they must not be reported as missing.
            without_patch=np.empty(0, np.int64),
            is_partial=True,
            seconds=result.seconds | {"total": time.perf_counter() - began},
        )
        if self._so_far is not None:
            result = _together(self._so_far, result)
        self._so_far = result
        return result


def _together(before: ReconstructionResult, now: ReconstructionResult) -> ReconstructionResult:
    """Add up the counts of two results; the object already contains both."""
    counts = {
        name: getattr(before, name) + getattr(now, name)
        for name in ("num_patches", "num_clipped", "num_dropped", "num_duplicates")
    }
    saturation = None
    if before.saturation is not None and now.saturation is not None:
        saturated = before.saturation * before.num_patches + now.saturation * now.num_patches
        saturation = saturated / max(counts["num_patches"], 1)
    seconds = {name: time + before.seconds[name] for name, time in now.seconds.items()}
    return replace(now, **counts, saturation=saturation, seconds=seconds)


def _union(first: ObjectGrid, second: ObjectGrid) -> ObjectGrid:
    """Find the smallest grid that holds two; the second may be empty."""
    if not second.height:
        return first
    left, top = (min(pair) for pair in zip(first.origin, second.origin, strict=True))
    right = max(g.origin[0] + g.width for g in (first, second))
    bottom = max(g.origin[1] + g.height for g in (first, second))
    return ObjectGrid(int(bottom - top), int(right - left), (left, top))
