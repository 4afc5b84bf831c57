"""Solve for object, probe and positions: one pass after the other over all patterns."""

import logging
import math
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.fft import fft2, ifft2

from ptychostream.errors import DataContractError
from ptychostream.geometry import ObjectGrid
from ptychostream.solver.canvas import Canvas
from ptychostream.solver.layout import PatchLayout
from ptychostream.solver.light import lay_out, light_of_scan
from ptychostream.solver.misfit import poisson_deviance, r_sums
from ptychostream.solver.options import SolverOptions
from ptychostream.solver.patterns import Block, DealtPatterns
from ptychostream.solver.position_step import geometry_moves, position_sums
from ptychostream.solver.probe_step import add_modes, order_modes
from ptychostream.solver.ranks import Ranks
from ptychostream.solver.residual import brightness
from ptychostream.solver.schedule import Pass, passes_in_time, settings_of
from ptychostream.stitching.weights import covering_area

logger = logging.getLogger(__name__)

#: Bytes of one array of waves that are computed together: about what a core's cache holds.
_BLOCK_BYTES = 2**21

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

#: A mean amplitude of the object that a probe of true power can explain.
_PLAUSIBLE_TRANSMISSION = 0.1, 1.1

#: Pixels with less than this part of the brightest one's light hold no object.
_UNLIT = 1e-4

#: A misfit this many times that of the first pass, and no small one, is a run that diverges; so
#: often it begins anew, with half the step.
_DIVERGED, _RESTARTS = 1.5, 3

#: Sends no light, and is no zero to divide by.
_DARK = 1e-12


@dataclass
class SolverState:
    """The solution after a pass; arrays are copied when they are asked for.

    Attributes
    ----------
    number, passes : int
        Passes done, and planned.
    misfit : float
        R = Σ|√n - √I| / Σ√n over all patterns, as met in this pass.
    deviance : float
        Poisson deviance of a pixel, from a sample of this pass's patterns.
    """

    number: int
    passes: int
    misfit: float
    deviance: float
    _solver: "Solver" = field(repr=False)
    _grid: ObjectGrid | None = field(default=None, repr=False)

    @property
    def object(self) -> NDArray[np.complex64]:
        """The object (H, W), at the power that goes with `probe`."""
        return self._solver.object_on(self._grid)

    @property
    def probe(self) -> NDArray[np.complex64]:
        """The probe (P, N, N), the strongest mode first."""
        return self._solver.probe_found()

    @property
    def coverage(self) -> NDArray[np.float32]:
        """How many positions light each pixel of the object, (H, W)."""
        layout = self._solver.layout
        grid = self._grid or ObjectGrid(*layout.shape, layout.origin)
        return self._solver.coverage_on(grid)[0]

    @property
    def positions(self) -> NDArray[np.float64]:
        """The positions (M, 2) as solved, (x, y) in pixels."""
        return self._solver.layout.positions.numpy().copy()


class Solver:
    """Preconditioned, accelerated updates of object, probe and positions.

    What is minimised is the Poisson likelihood of the counts and a weak smoothness prior whose
    strength the data decide. A pass visits every pattern once, with two Fourier transforms a
    mode (four, where the probe is solved for), and has a few updates whatever the scan's size.

    Parameters
    ----------
    patterns : DealtPatterns
        The patterns.
    positions : (M, 2) float64
        Scan positions (x, y), in pixels.
    probe : (P, N, N) complex
        Illumination; its power decides the object's amplitude where it is plausible.
    options : SolverOptions
        What is asked for.
    ranks : Ranks, optional
        The processes that solve together; None is this one alone.

    Attributes
    ----------
    probe : (P, N, N) complex64
        Illumination in the unit of the updates: with it the object is about 1.
    layout : PatchLayout
        Positions so far.
    canvas : Canvas
        The object so far.
    misfit, deviance : list of float
        Of each pass.
    probe_change : list of float
        Relative change of the probe in each pass.
    stopped_by : str
        `passes`, `minutes`, `rest` (nothing changed any more), `request` or `divergence` (the
        result is then what the run started from).
    """

    def __init__(
        self,
        patterns: DealtPatterns,
        positions: NDArray[np.float64],
        probe: NDArray[np.complexfloating],
        options: SolverOptions,
        ranks: Ranks | None = None,
    ) -> None:
        self._patterns, self._options, self.ranks = patterns, options, ranks or Ranks()
        self.device = patterns.device
        self.layout = PatchLayout(positions, patterns.edge, self.device)
        self.canvas = Canvas(
            self.layout, budget=options.canvas_budget, scratch_folder=options.scratch_folder
        )
        # A copy: it is updated in place.
        given = torch.from_numpy(np.array(probe, np.complex64)).to(self.device)
        self._given_power = float(given.abs().square().sum())
        self.probe = add_modes(given, options.probe_modes or len(given))
        self._probe_velocity = torch.zeros_like(self.probe)
        self._mean_counts = torch.zeros(patterns.edge, patterns.edge, device=self.device)
        self._length = max(1, _BLOCK_BYTES // (8 * patterns.edge**2 * len(self.probe)))
        self._prior = 0.01 if options.smoothness is None else options.smoothness
        self._beams: Tensor | None = None
        self._moves = options.refine_probe or options.correct_positions
        size = 8 * self.probe.numel() * len(patterns)
        self._keeps_beams = not self._moves and size <= _BEAM_SHARE * options.memory_budget
        weight = patterns.weight
        self._num_pixels = patterns.edge**2 if weight is None else float(weight.sum())
        self._light: Tensor | None = None
        self._rng = np.random.default_rng(options.seed)
        self._step, self._restarts = options.step, 0
        self._start: tuple[NDArray[np.complex64], ObjectGrid] | None = None
        self.misfit: list[float] = []
        self.deviance: list[float] = []
        self.probe_change: list[float] = []
        self.stopped_by, self.final_misfit = "passes", math.nan
        self.passes = options.passes
        self._look()
        self._first_probe = self.probe.clone()
        self._first_positions = self.layout.positions.clone()

    def _look(self) -> None:
        """Find the mean pattern; with it the probe gets the measured power."""
        for block in self._all_blocks():
            self._mean_counts += block.counts.sum(0)
        self.ranks.add(self._mean_counts)
        self._mean_counts /= self._patterns.total
        self._brightness = brightness(self._mean_counts)
        self._power = float(self._mean_counts.sum())
        if not 0 < self._power < math.inf:
            raise DataContractError(
                f"the {self._patterns.total} patterns hold {self._power:g} photons on average "
                "where the detector can be trusted: nothing can be solved for; look at the "
                "mask, and at the values (ptychostream info)"
            )
        self.probe *= (self._power / self.probe.abs().square().sum()).sqrt()

    def start_from(self, obj: NDArray[np.complex64], grid: ObjectGrid) -> None:
        """Begin with an object (H, W) on a grid instead of a flat one; zeros are unknown."""
        rows, columns, grid_rows, grid_columns = self.layout.window(grid)
        self._start = obj, grid
        known = obj != 0
        level = np.abs(obj[known]).mean() if known.any() else 1.0
        filled = np.where(known, obj / level, obj[known].mean() / level if known.any() else 1)
        part = torch.from_numpy(filled[grid_rows, grid_columns].astype(np.complex64))
        self.canvas.object[rows, columns] = part.to(self.device)

    @torch.no_grad()
    def run(
        self,
        *,
        grid: ObjectGrid | None = None,
        should_stop: Callable[[], bool] | None = None,
        on_patterns: Callable[[int], object] | None = None,
    ) -> Iterator[SolverState]:
        """Make the passes, and yield the state after each.

        Parameters
        ----------
        grid : ObjectGrid, optional
            Grid of the states' objects; None is the whole canvas.
        should_stop : callable, optional
            Asked before every update; True ends the run with what there is.
        on_patterns : callable, optional
            Called with the number of patterns of each finished update.
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
                and self.probe_moves
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
        """Return whether the probe still changes, by more than noise alone moves it."""
        # Each of its N² pixels is known to half a photon's root over the M patterns that it lit.
        noise = math.sqrt(self._patterns.edge**2 / (4 * self._patterns.total * self._power))
        at_rest = max(PROBE_AT_REST, _OF_NOISE * noise)
        return (
            self._options.refine_probe
            and bool(self.probe_change)
            and self.probe_change[-1] > at_rest
        )

    def _is_stopped(self, should_stop: Callable[[], bool] | None) -> bool:
        """Return whether any of the processes is asked to stop."""
        return self.ranks.any(should_stop is not None and should_stop())

    def _has_diverged(self) -> bool:
        return not self.misfit[-1] < _DIVERGED * max(self.misfit[0], 0.3)

    def _begin_anew(self) -> None:
        """Go back to the start, and take half the step from now on."""
        self._restarts += 1
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
        return float(self.canvas.velocity.norm() / self.canvas.object.norm()) < _AT_REST[1]

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
        lit, before = self._update_light(settings.num_batches), self.probe.clone()
        sums = torch.zeros(self._patterns.total, 5, device=self.device) if with_positions else None
        totals = torch.zeros(4, dtype=torch.float64)
        parts = self._rng.permutation(self._patterns.num_parts)
        for batch in np.array_split(parts, min(settings.num_batches, len(parts))):
            if self._is_stopped(should_stop):
                break
            visited = self._update(batch, settings, with_probe, sums, totals)
            if on_patterns is not None:
                on_patterns(visited)
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
        sums: Tensor | None,
        totals: Tensor,
    ) -> int:
        """Gather what a batch of parts asks for, and make one update; return its patterns."""
        _options, steps, canvas = self._options, self._options.steps, self.canvas
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
            rate = _intensity(wave)
            wanted = steps.residual(
                block.counts, rate, brightness=self._brightness, trust=settings.trust
            )
            if self._patterns.weight is not None:
                wanted.mul_(self._patterns.weight)
            self._measure(block, rate, totals, with_deviance=index == 0)
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
        self.ranks.add(canvas.pull, count)
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

    def _all_blocks(self) -> Iterator[Block]:
        return self._patterns.blocks(np.arange(self._patterns.num_parts), self._length)

    def _measure(self, block: Block, rate: Tensor, totals: Tensor, *, with_deviance: bool) -> None:
        """Add the misfit of a block to the totals of the pass."""
        weight = self._patterns.weight
        off, norm = r_sums(block.amplitude, rate, weight)
        totals[0] += float(off.sum())
        totals[1] += float(norm.sum())
        # Logarithms are dear: the deviance is taken from one block of each update.
        if with_deviance:
            totals[2] += float(poisson_deviance(block.counts, rate, weight).sum())
            totals[3] += len(block.rows) * self._num_pixels

    def _move_positions(self, number: int, sums: Tensor) -> None:
        options, positions = self._options, self.layout.positions
        sums = sums.cpu()
        if options.fit_scan_geometry and number < _ALONE + _TOGETHER:
            positions += geometry_moves(sums, positions, longest=options.longest_move)
        else:
            positions += options.steps.position_moves(sums, longest=options.longest_move)

    @torch.no_grad()
    def misfit_of_patterns(self) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        """Return R and the deviance of a pixel of each pattern, (M,) each, for the result.

        `final_misfit` is then R over all of them.
        """
        source = self.canvas.object if self.canvas.mean is None else self.canvas.mean
        misfit, deviance = (torch.zeros(self._patterns.total) for _ in range(2))
        spectrum, weight = fft2(self.probe), self._patterns.weight
        sums = torch.zeros(2, dtype=torch.float64)
        for block in self._all_blocks():
            rate = self.rates(source, spectrum, block.rows)
            off, norm = r_sums(block.amplitude, rate, weight)
            misfit[block.rows] = (off / norm.clamp(min=_DARK)).cpu()
            sums += torch.stack([off.sum(), norm.sum()]).cpu()
            each = poisson_deviance(block.counts, rate, weight) / self._num_pixels
            deviance[block.rows] = each.cpu()
        self.ranks.add(sums, misfit, deviance)
        self.final_misfit = float(sums[0] / sums[1].clamp(min=1e-30))
        return misfit.numpy(), deviance.numpy()

    def rates(self, source: Tensor, spectrum: Tensor, rows: Tensor) -> Tensor:
        """Predict the patterns of some positions, (B, N, N), zero frequency in the corner."""
        corner, fraction = self.layout.corners(rows)
        beam = ifft2(spectrum * self.layout.ramps(fraction))
        return _intensity(fft2(self.layout.cut(source, corner)[:, None] * beam, norm="ortho"))

    def _power_of_probe(self) -> tuple[float, float]:
        """Return the probe's power in the updates, and the power that it is given in the end.

        Only the product of probe and object is known: the power that came with the probe
        decides, where the transmission that follows from it can be.
        """
        now, low, high = float(self.probe.abs().square().sum()), *_PLAUSIBLE_TRANSMISSION
        plausible = low <= math.sqrt(self._power / self._given_power) <= high
        return now, self._given_power if plausible else self._power

    def object_on(self, grid: ObjectGrid | None) -> NDArray[np.complex64]:
        """Return the object on a grid, the whole canvas where None."""
        if grid is None:
            grid = ObjectGrid(*self.layout.shape, self.layout.origin)
        now, final = self._power_of_probe()
        obj = self.canvas.on_grid(self.layout, grid)
        obj *= np.float32(math.sqrt(now / final))
        return obj

    def probe_found(self) -> NDArray[np.complex64]:
        """Return the probe (P, N, N)."""
        now, final = self._power_of_probe()
        return (self.probe * math.sqrt(final / now)).cpu().numpy()

    def coverage_on(self, grid: ObjectGrid) -> tuple[NDArray[np.float32], NDArray[np.bool_]]:
        """Return how many positions light each pixel of a grid, and where no light falls."""
        power = self.probe.abs().square().sum(0).cpu()
        canvas = torch.zeros(self.layout.shape)
        rows, columns, grid_rows, grid_columns = self.layout.window(grid)
        coverage = np.zeros(grid.shape, np.float32)
        lay_out(self.layout, covering_area(power).numpy(), canvas)
        coverage[grid_rows, grid_columns] = canvas[rows, columns].round().numpy()
        is_dark = np.ones(grid.shape, bool)
        light_of_scan(self.layout, self.probe, canvas)
        is_dark[grid_rows, grid_columns] = (canvas < _UNLIT * canvas.max())[rows, columns].numpy()
        return coverage, is_dark


def _intensity(wave: Tensor) -> Tensor:
    """Sum |wave|² over the modes (B, P, N, N), and never return zero."""
    each = wave.real.square().add_(wave.imag.square())
    return (each[:, 0] if each.shape[1] == 1 else each.sum(1)).add_(_DARK)


def _sum_modes(waves: Tensor) -> Tensor:
    return waves[:, 0] if waves.shape[1] == 1 else waves.sum(1)
