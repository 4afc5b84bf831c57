"""Solve for object, probe and positions: one pass after the other over all patterns."""

import logging
import math
import time
from collections.abc import Callable, Iterator
from dataclasses import replace

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.fft import fft2, ifft2

from ptychostream.geometry import ObjectGrid
from ptychostream.solver.light import light_of_scan
from ptychostream.solver.misfit import poisson_deviance, r_sums
from ptychostream.solver.object_step import reach
from ptychostream.solver.options import SolverOptions
from ptychostream.solver.patterns import Block, DealtPatterns
from ptychostream.solver.phase_waves import PhaseWaves
from ptychostream.solver.position_step import geometry_moves, position_sums
from ptychostream.solver.probe_step import order_modes
from ptychostream.solver.schedule import Pass, passes_in_time, settings_of
from ptychostream.solver.solution import Solution, SolverState, intensity
from ptychostream.solver.tiles import Tiles

logger = logging.getLogger(__name__)

#: Passes before the probe, and positions, are solved for: the object has to exist first.
_ALONE = 1

#: Passes in which all positions move together, before each moves by itself.
_TOGETHER = 6

#: Largest relative change of the probe in a pass that counts as converged, and the part of the
#: probe's own photon noise by which a pass may change it as well.
PROBE_AT_REST, _OF_NOISE = 0.02, 0.5

#: Beams of a fixed probe are kept up to this part of the memory budget.
_BEAM_SHARE = 0.25

#: Changes in a pass, of the misfit and of the object, below which nothing more happens.
_AT_REST = 1e-5, 1e-4

#: A misfit this many times that of the first pass, and no small one, is a run that diverges; so
#: often it begins anew, with half the step.
_DIVERGED, _RESTARTS = 1.5, 3

#: A probe with less than this part of the measured power is none: with few photons, one that is
#: refined can fade away.
_LOST = 1e-3


class Solver(Solution):
    """Preconditioned, accelerated updates of object, probe and positions.

    What is minimised is the Poisson likelihood of the counts and a weak smoothness prior whose
    strength the data decide. A pass visits every pattern once, with two Fourier transforms a
    mode (four, where the probe is solved for), and has a few updates whatever the scan's size.
    Parameters are those of `Solution`.

    `probe_change`: relative change of the probe in each pass.
    `probe_was_lost`: whether refining the probe failed, so that it was left as it was given.
    `stopped_by`: `passes`, `minutes`, `rest` (nothing changed any more), `request` or `divergence`
        (the result is then what the run started from).
    """

    def __init__(
        self,
        patterns: DealtPatterns,
        positions: NDArray[np.float64],
        probe: NDArray[np.complexfloating],
        options: SolverOptions,
        tiles: Tiles | None = None,
    ) -> None:
        super().__init__(patterns, positions, probe, options, tiles)
        self._probe_velocity = torch.zeros_like(self.probe)
        self._prior = self.first_prior
        self._beams: Tensor | None = None
        self._moves = options.refine_probe or options.correct_positions
        size = 8 * self.probe.numel() * len(patterns)
        self._keeps_beams = not self._moves and size <= _BEAM_SHARE * options.memory_budget
        self._light: Tensor | None = None
        # Not the generator that dealt the patterns: batches would be runs of neighbours.
        self._rng = np.random.default_rng([options.seed, 1])
        self._step, self._restarts = options.step, 0
        self._waves = PhaseWaves(self.canvas, self.ranks)
        self.misfit: list[float] = []
        self.deviance: list[float] = []
        self.probe_change: list[float] = []
        self.stopped_by, self.probe_was_lost = "passes", False
        self.passes = options.passes
        self._first_probe = self.probe.clone()
        self._first_positions = self.layout.positions.clone()

    @torch.no_grad()
    def run(
        self,
        *,
        grid: ObjectGrid | None = None,
        should_stop: Callable[[], bool] | None = None,
        on_patterns: Callable[[int], object] | None = None,
    ) -> Iterator[SolverState]:
        """Make the passes, and yield the state after each.

        `grid`: grid of the states' objects; None is the whole canvas.
        `should_stop`: asked before every update; True ends the run with what there is.
        `on_patterns`: called with the number of patterns of each finished update.
        """
        options, began = self._options, time.perf_counter()
        number, extra = 0, 0
        while number < self.passes + extra:
            if self._is_stopped(should_stop):
                self.stopped_by = "request"
                return
            settings = settings_of(number, self.passes, self._patterns.total, options)
            started = time.perf_counter()
            self._visit_all(number, settings, should_stop, on_patterns)
            if self._has_diverged():
                if self._restarts == _RESTARTS:
                    self.stopped_by = "divergence"
                    self._go_back()
                    return
                self._begin_anew()
                number, extra = 0, 0
                continue
            change = self.probe_change[-1]
            number += 1
            if number == 1 and options.minutes is not None:
                now = time.perf_counter()
                found = passes_in_time(options, now - began, now - started)
                self.passes = self.ranks.of_first(found)
                self.stopped_by = "minutes"
            if number > self.passes * (1 - options.average):
                self.canvas.average()
            yield SolverState(
                number, self.passes + extra, self.misfit[-1], self.deviance[-1], self, grid
            )
            if (
                number == self.passes + extra
                and options.minutes is None
                and self._probe_changes_more_than(options.probe_rest)
                and extra < self.passes
            ):
                # The object that belongs to an older probe is no part of the mean.
                extra += max(1, self.passes // 4)
                self.canvas.forget_mean()
                logger.info("the probe still changes by %.1f %% a pass: going on", 100 * change)
            if self._is_at_rest():
                self.stopped_by = "rest"
                return

    @property
    def probe_moves(self) -> bool:
        """Return whether the probe still changes too much to be called converged."""
        return self._probe_changes_more_than(PROBE_AT_REST)

    def _probe_changes_more_than(self, part: float) -> bool:
        """Return whether the probe changes by more than a part of it, and than noise moves it."""
        # Each of its N² pixels is known to half a photon's root over the M patterns that it lit.
        noise = math.sqrt(self._patterns.edge**2 / (4 * self._patterns.total * self._power))
        is_refined = self._options.refine_probe and bool(self.probe_change)
        return is_refined and self.probe_change[-1] > max(part, _OF_NOISE * noise)

    def _is_stopped(self, should_stop: Callable[[], bool] | None) -> bool:
        """Return whether any of the processes is asked to stop."""
        return self.ranks.any(should_stop is not None and should_stop())

    def _has_diverged(self) -> bool:
        """Return whether the misfit rises without end, or the probe has faded to nothing."""
        misfit, deviance = self.misfit, self.deviance
        if self._is_probe_lost() or not math.isfinite(misfit[-1]):
            return True
        # Where most pixels hold no photon, R rises while the rates come closer to the truth.
        rises = not misfit[-1] < _DIVERGED * max(misfit[0], 0.3)
        return rises and not deviance[-1] < _DIVERGED * deviance[0]

    def _is_probe_lost(self) -> bool:
        return float(self.probe.abs().square().sum()) < _LOST * self._power

    def _begin_anew(self) -> None:
        """Go back to the start, and keep the probe, or take half the step, from now on."""
        self._restarts += 1
        if self._is_probe_lost():
            self.probe_was_lost = True
            self._options = replace(self._options, refine_probe=False)
            logger.warning("the probe faded away while it was refined: beginning anew without")
        else:
            self._step /= 2
            logger.warning(
                "the misfit R rose to %.3g: beginning anew with half the step", self.misfit[-1]
            )
        self._go_back()
        for history in (self.misfit, self.deviance, self.probe_change):
            history.clear()

    def _go_back(self) -> None:
        """Go back to the start of the run."""
        self.canvas.clear()
        self._prior = self.first_prior
        self.probe = self._first_probe.clone()
        self._probe_velocity.zero_()
        self.layout.positions = self._first_positions.clone()
        if self._start is not None:
            self.start_from(*self._start)

    def _is_at_rest(self) -> bool:
        """Return whether neither the misfit nor the object changes any more."""
        if len(self.misfit) < 4 or self.canvas.mean is not None:
            return False
        step = abs(self.misfit[-2] - self.misfit[-1])
        if step > _AT_REST[0] * self.misfit[-1]:
            return False
        return self.canvas.relative_change() < _AT_REST[1]

    def _visit_all(
        self,
        number: int,
        settings: Pass,
        should_stop: Callable[[], bool] | None,
        on_patterns: Callable[[int], object] | None,
    ) -> None:
        """Make one pass: light, updates, positions, modes, strength of the prior."""
        options, steps = self._options, self._options.steps
        with_probe = options.refine_probe and number >= _ALONE
        with_positions = options.correct_positions and number >= _ALONE
        if self._hold_patches(reach(self._prior)):
            self._light = None
        lit, before = self._update_light(settings.num_batches), self.probe.clone()
        with_waves = options.phase_waves > 0 and self._waves.begin()
        sums = torch.zeros(self._patterns.total, 5, device=self.device) if with_positions else None
        totals = torch.zeros(4, dtype=torch.float64)
        parts = self._rng.permutation(self._patterns.num_parts)
        for batch in np.array_split(parts, min(settings.num_batches, len(parts))):
            if self._is_stopped(should_stop):
                break
            visited = self._update(batch, settings, with_probe, with_waves, sums, totals)
            if on_patterns is not None:
                on_patterns(visited)
        if with_waves:
            self._waves.move(options.phase_waves)
        self.ranks.add(totals)
        self.misfit.append(float(totals[0] / totals[1].clamp(min=1e-30)))
        self.deviance.append(float(totals[2] / totals[3].clamp(min=1)))
        if sums is not None:
            self.ranks.add(sums)
            self._move_positions(number, sums)
        self.probe_change.append(float((self.probe - before).norm() / before.norm()))
        if with_probe:
            self.probe, self._probe_velocity = order_modes(self.probe, self._probe_velocity)
        if options.smoothness is None:
            rough = self.canvas.roughness()
            self._prior = steps.prior_strength(self._prior, lit_pixels=lit, rough=rough)

    def _update_light(self, num_batches: int) -> int:
        """Compute the light of the scan, again where probe or positions move."""
        if self._light is None or self._moves:
            self._light = torch.zeros(self.layout.shape, device=self.device)
            light_of_scan(self.layout, self.probe, self._light)
        return self.canvas.set_light(self._light, self.probe, num_batches)

    def _update(
        self,
        batch: NDArray[np.int64],
        settings: Pass,
        with_probe: bool,
        with_waves: bool,
        sums: Tensor | None,
        totals: Tensor,
    ) -> int:
        """Gather what a batch of parts asks for, and make one update; return its patterns."""
        steps, canvas = self._options.steps, self.canvas
        canvas.advance(settings.momentum)
        probe = self.probe
        if with_probe:
            probe = probe + settings.momentum * self._probe_velocity
        spectrum = fft2(probe)
        pull = torch.zeros_like(probe)
        weight = torch.zeros(probe.shape[-2:], device=self.device)
        visited = 0
        for index, block in enumerate(self._patterns.blocks(batch, self._length)):
            visited += len(block.rows)
            corner, fraction = self.layout.corners(block.rows)
            ramp = self.layout.ramps(fraction) if self._moves else None
            beam = self._kept_beam(block, spectrum) if ramp is None else ifft2(spectrum * ramp)
            patch = self.layout.cut(canvas.ahead, corner)
            wave = fft2(patch[:, None] * beam, norm="ortho")
            rate = intensity(wave)
            wanted = steps.residual(
                block.counts, rate, brightness=self._brightness, trust=settings.trust
            )
            if self._patterns.weight is not None:
                wanted.mul_(self._patterns.weight)
            self._measure(block, rate, totals, is_first=index == 0)
            lack = ifft2(wave.mul_(wanted[:, None]), norm="ortho")
            self.layout.add(canvas.pull, corner, _sum_modes(beam.conj() * lack))
            if with_probe and ramp is not None:
                pull += fft2(patch.conj()[:, None] * lack).mul_(ramp.conj()).sum(0)
                weight += patch.abs().square().sum(0)
            if sums is not None:
                before, after = (
                    (
                        self.layout.cut(canvas.ahead, corner, (side, 0)),
                        self.layout.cut(canvas.ahead, corner, (0, side)),
                    )
                    for side in (-1, 1)
                )
                sums[block.rows] = position_sums(beam, lack, before, after)
        count = torch.tensor(float(visited), device=self.device)
        canvas.add_up_pull()
        if with_waves:
            self._waves.gather()
        self.ranks.add(count)
        if with_probe:
            self.ranks.add(pull, weight)
        visited = round(float(count))
        steps.object_step(
            canvas,
            share=visited / self._patterns.total,
            momentum=settings.momentum,
            step=self._step,
            prior=self._prior,
        )
        if with_probe:
            steps.probe_step(
                self.probe,
                self._probe_velocity,
                pull=ifft2(pull),
                weight=weight,
                momentum=settings.momentum,
                step=self._step,
            )
        return visited

    def _kept_beam(self, block: Block, spectrum: Tensor) -> Tensor:
        """Return the fixed probe (B, P, N, N) at each pattern's fraction; shifted only once."""
        if not self._keeps_beams:
            return ifft2(spectrum * self.layout.ramps(self.layout.corners(block.rows)[1]))
        if self._beams is None:
            shape = (len(self._patterns), *spectrum.shape)
            self._beams = torch.empty(shape, dtype=spectrum.dtype, device=self.device)
            for each in self._all_blocks():
                ramp = self.layout.ramps(self.layout.corners(each.rows)[1])
                self._beams[torch.from_numpy(each.places)] = ifft2(spectrum * ramp)
        return self._beams[torch.from_numpy(block.places)]

    def _measure(self, block: Block, rate: Tensor, totals: Tensor, *, is_first: bool) -> None:
        """Add the misfit of a block to the totals of the pass."""
        weight = self._patterns.weight
        off, norm = r_sums(block.amplitude, rate, weight)
        totals[0] += float(off.sum())
        totals[1] += float(norm.sum())
        # Roots and logarithms are dear: the first block of each update is looked at, of which each
        # process gives its part.
        if is_first:
            number = -(-len(block.rows) // self.ranks.size)
            deviance = poisson_deviance(block.counts[:number], rate[:number], weight)
            totals[2] += float(deviance.sum())
            totals[3] += number * self._num_pixels
            self._waves.look(rate[:number])

    def _move_positions(self, number: int, sums: Tensor) -> None:
        options, positions = self._options, self.layout.positions
        sums = sums.cpu()
        if options.fit_scan_geometry and number < _ALONE + _TOGETHER:
            positions += geometry_moves(sums, positions, longest=options.longest_move)
        else:
            positions += options.steps.position_moves(sums, longest=options.longest_move)


def _sum_modes(waves: Tensor) -> Tensor:
    return waves[:, 0] if waves.shape[1] == 1 else waves.sum(1)
