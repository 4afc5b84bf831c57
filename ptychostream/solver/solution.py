"""Object, probe and positions as they are by now, and what they predict."""

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.fft import fft2, ifft2

from ptychostream.errors import DataContractError
from ptychostream.geometry import ObjectGrid
from ptychostream.solver.boxes import Box
from ptychostream.solver.canvas import Canvas
from ptychostream.solver.layout import PatchLayout
from ptychostream.solver.light import lay_out, light_of_scan
from ptychostream.solver.misfit import poisson_deviance, r_sums
from ptychostream.solver.object_step import reach
from ptychostream.solver.options import SolverOptions
from ptychostream.solver.patterns import Block, DealtPatterns
from ptychostream.solver.prior import FIRST
from ptychostream.solver.probe_step import add_modes
from ptychostream.solver.residual import brightness
from ptychostream.solver.tiles import Tiles
from ptychostream.stitching.weights import covering_area

#: Bytes of one array of waves that are computed together: about what a core's cache holds.
_BLOCK_BYTES = 2**21

#: A mean amplitude of the object that a probe of true power can explain.
_PLAUSIBLE_TRANSMISSION = 0.1, 1.1

#: Pixels with less than this part of the brightest one's light hold no object.
_UNLIT = 1e-4

#: Bytes of a block that is larger than the arrays of a block of patterns, and than glibc's first
#: limit, yet below its last one of 32 MiB.
_LARGE = 31 * 2**20

#: Said by the first process when it asks the others for their parts of the object.
_ASKED = "object"

#: Sends no light, and is no zero to divide by.
_DARK = 1e-12


class Solution:
    """Object, probe and positions, beside the patterns that they have to explain.

    `positions` (M, 2): scan positions (x, y), in pixels.
    `probe` (P, N, N): illumination; its power decides the object's amplitude where it is plausible.
    `tiles`: what each of several processes that solve together has; None is this one alone.
    `tiles`, `ranks`: the processes, and what each has.
    `probe` (P, N, N): illumination in the unit of the updates: with it the object is about 1.
    """

    def __init__(
        self,
        patterns: DealtPatterns,
        positions: NDArray[np.float64],
        probe: NDArray[np.complexfloating],
        options: SolverOptions,
        tiles: Tiles | None = None,
    ) -> None:
        # The C library gives blocks back to the system at once, unless it has seen a larger one
        # freed: without this, arrays of each block of patterns are mapped anew, page by page.
        torch.empty(_LARGE, dtype=torch.uint8)
        self._patterns, self._options = patterns, options
        self.tiles = tiles or Tiles(positions)
        self.ranks = self.tiles.ranks
        self.device = patterns.device
        self.layout = PatchLayout(positions, patterns.edge, self.device)
        #: Strength of the prior before the data have decided.
        self.first_prior = FIRST if options.smoothness is None else options.smoothness
        self.tiles.place(self.layout, reach(self.first_prior))
        self.canvas = Canvas(
            self.layout,
            self.tiles,
            budget=options.canvas_budget,
            scratch_folder=options.scratch_folder,
        )
        # A copy: it is updated in place.
        given = torch.from_numpy(np.array(probe, np.complex64)).to(self.device)
        self._given_power = float(given.abs().square().sum())
        self.probe = add_modes(given, options.probe_modes or len(given))
        self._length = max(1, _BLOCK_BYTES // (8 * patterns.edge**2 * len(self.probe)))
        weight = patterns.weight
        self._num_pixels = patterns.edge**2 if weight is None else float(weight.sum())
        self._start: tuple[NDArray[np.complex64] | None, ObjectGrid] | None = None
        self.final_misfit = math.nan
        self._look()

    def _look(self) -> None:
        """Find the mean pattern; with it the probe gets the measured power."""
        edge = self._patterns.edge
        mean_counts = torch.zeros(edge, edge, device=self.device)
        for block in self._all_blocks():
            mean_counts += block.counts.sum(0)
        self.ranks.add(mean_counts)
        mean_counts /= self._patterns.total
        self._brightness = brightness(mean_counts)
        self._power = float(mean_counts.sum())
        if not 0 < self._power < math.inf:
            raise DataContractError(
                f"the {self._patterns.total} patterns hold {self._power:g} photons on average "
                "where the detector can be trusted: nothing can be solved for; look at the "
                "mask, and at the values (ptychostream info)"
            )
        self.probe *= (self._power / self.probe.abs().square().sum()).sqrt()

    def start_from(self, obj: NDArray[np.complex64] | None, grid: ObjectGrid) -> None:
        """Begin with an object (H, W) on a grid instead of a flat one; zeros are unknown.

        Of several processes the first one has it, and each gets its part.
        """
        self._start = obj, grid
        level, mean = 1.0, 1.0 + 0j
        if obj is not None and (known := obj != 0).any():
            level, mean = float(np.abs(obj[known]).mean()), complex(obj[known].mean())
        level, mean = self.ranks.of_first((level, mean / level))
        part = self.tiles.dealt(obj, grid, self.layout)
        filled = np.where(part != 0, part / level, mean).astype(np.complex64)
        rows, columns, _, _ = self.layout.window(grid)
        self.canvas.object[rows, columns] = torch.from_numpy(filled).to(self.device)

    @property
    def own_rows(self) -> NDArray[np.int64]:
        """The patterns that this process has, (m,), in ascending order."""
        return np.sort(self._patterns.rows.numpy())

    def _all_blocks(self) -> Iterator[Block]:
        return self._patterns.blocks(np.arange(self._patterns.num_parts), self._length)

    @torch.no_grad()
    def misfit_of_patterns(self) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        """Return R and the deviance of a pixel of each pattern, (M,) each, for the result.

        `final_misfit` is then R over all of them.
        """
        self._hold_patches(0)
        source = self.canvas.found
        self.canvas.complete(source)
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

    def _hold_patches(self, rim: int) -> bool:
        """Hold other pixels, where patches or a rim reach beyond the box; return whether so."""
        if not self.tiles.place(self.layout, rim):
            return False
        self.canvas.hold_box()
        return True

    def rates(self, source: Tensor, spectrum: Tensor, rows: Tensor) -> Tensor:
        """Predict the patterns of some positions, (B, N, N), zero frequency in the corner."""
        corner, fraction = self.layout.corners(rows)
        beam = ifft2(spectrum * self.layout.ramps(fraction))
        return intensity(fft2(self.layout.cut(source, corner)[:, None] * beam, norm="ortho"))

    def _power_of_probe(self) -> tuple[float, float]:
        """Return the probe's power in the updates, and the power that it is given in the end.

        Only the product of probe and object is known: the power that came with the probe
        decides, where the transmission that follows from it can be.
        """
        now, low, high = float(self.probe.abs().square().sum()), *_PLAUSIBLE_TRANSMISSION
        plausible = low <= math.sqrt(self._power / self._given_power) <= high
        return now, self._given_power if plausible else self._power

    def object_on(self, grid: ObjectGrid | None) -> NDArray[np.complex64]:
        """Return the object on a grid, the whole canvas where None.

        Of several processes, all take part; the first one has it, and the others have the part
        that belongs to them.
        """
        grid = grid or self.layout.whole.grid
        return self._gathered(self._own_object(grid), grid, beyond=1)

    def _own_object(self, grid: ObjectGrid) -> NDArray[np.complex64]:
        """Return the part of the object that belongs to this process."""
        now, final = self._power_of_probe()
        obj = self.canvas.on_grid(self.layout, self.tiles.part_of(grid))
        obj *= np.float32(math.sqrt(now / final))
        return obj

    def _gathered(self, part: NDArray[Any], grid: ObjectGrid, *, beyond: float) -> NDArray[Any]:
        folder = self.canvas.folder_for(Box.of_grid(grid))
        return self.tiles.gathered(part, grid, beyond=beyond, folder=folder)

    def probe_found(self) -> NDArray[np.complex64]:
        """Return the probe (P, N, N)."""
        now, final = self._power_of_probe()
        return (self.probe * math.sqrt(final / now)).cpu().numpy()

    def coverage_on(self, grid: ObjectGrid) -> NDArray[np.float32]:
        """Return how many positions light each pixel of a grid."""
        return self._coverage(self.layout.on_whole(), grid)

    def _coverage(self, layout: PatchLayout, grid: ObjectGrid) -> NDArray[np.float32]:
        power = self.probe.abs().square().sum(0).cpu()
        image = torch.zeros(layout.shape)
        lay_out(layout, covering_area(power).numpy(), image)
        rows, columns, grid_rows, grid_columns = layout.window(grid)
        coverage = np.zeros(grid.shape, np.float32)
        coverage[grid_rows, grid_columns] = image[rows, columns].round().numpy()
        return coverage

    def result_on(self, grid: ObjectGrid) -> tuple[NDArray[np.complex64], NDArray[np.float32]]:
        """Return object and coverage on a grid; the object is zero where no light falls.

        Of several processes, all take part; see `object_on`.
        """
        part = self.tiles.part_of(grid)
        obj, coverage = self._own_object(grid), self._coverage(self.layout, part)
        light = torch.zeros(self.layout.shape)
        light_of_scan(self.layout, self.probe, light)
        is_dark = np.ones(part.shape, bool)
        rows, columns, grid_rows, grid_columns = self.layout.window(part)
        least = _UNLIT * torch.tensor(self.ranks.most(float(light.max())))
        is_dark[grid_rows, grid_columns] = (light[rows, columns] < least).numpy()
        obj[is_dark] = 0
        return self._gathered(obj, grid, beyond=0), self._gathered(coverage, grid, beyond=0)


@dataclass
class SolverState:
    """The solution after a pass; arrays are copied when they are asked for.

    Of several processes the first one may ask for the object, while the others are in `shown_to`.

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
    _solution: "Solution" = field(repr=False)
    _grid: ObjectGrid | None = field(default=None, repr=False)

    def shown_to(self, on_pass: Callable[["SolverState"], object] | None) -> bool:
        """Show the state to a function, in the first process; return whether it returns True.

        In the others, this process gives its part of the object as often as that function asks.
        """
        ranks = self._solution.ranks
        if ranks.number == 0:
            return ranks.of_first(on_pass is not None and on_pass(self) is True)
        while (said := ranks.of_first("")) == _ASKED:
            self._solution.object_on(self._grid)
        return bool(said)

    @property
    def object(self) -> NDArray[np.complex64]:
        """The object (H, W), at the power that goes with `probe`."""
        self._solution.ranks.of_first(_ASKED)
        return self._solution.object_on(self._grid)

    @property
    def probe(self) -> NDArray[np.complex64]:
        """The probe (P, N, N), the strongest mode first."""
        return self._solution.probe_found()

    @property
    def coverage(self) -> NDArray[np.float32]:
        """How many positions light each pixel of the object, (H, W)."""
        return self._solution.coverage_on(self._grid or self._solution.layout.whole.grid)

    @property
    def positions(self) -> NDArray[np.float64]:
        """The positions (M, 2) as solved, (x, y) in pixels."""
        return self._solution.layout.positions.numpy().copy()


def intensity(wave: Tensor) -> Tensor:
    """Sum |wave|² over the modes (B, P, N, N), and never return zero."""
    each = wave.real.square().add_(wave.imag.square())
    return (each[:, 0] if each.shape[1] == 1 else each.sum(1)).add_(_DARK)
