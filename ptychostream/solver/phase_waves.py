"""Move long waves of the object's phase, which the updates reach only slowly."""

import math

import torch
from torch import Tensor
from torch.fft import irfft2, rfft2

from ptychostream.solver.canvas import Canvas
from ptychostream.solver.ranks import Ranks

#: Waves with less than this part of a single pixel's curvature are moved here; shorter ones are
#: reached by the updates of a pass. None is moved as if it had less than the other part.
_SLOW, _LEAST = 0.2, 1e-3

#: Most that a pass may turn the phase, in rad.
_MOST = 0.5

#: A coarse pixel is so small a part of the shortest wave; edges of the coarse grid have at most
#: so many of them.
_FINENESS, _LARGEST = 8, 4096

#: Rows of the canvas that are processed together.
_BAND = 512


class PhaseWaves:
    """A correction of the phase on a coarse grid, once a pass.

    A wave of the phase that is much longer than the beam is a ramp under each pattern's beam, which
    only shifts the pattern on the detector: the misfit's curvature falls as the wave's frequency
    squared, and updates that are divided by the curvature of single pixels take hundreds of passes.
    So what the patterns of a whole pass ask of the phase is added up on a coarse grid, and each
    frequency is divided by its own curvature: Newton's step for the slow waves alone.

    `canvas`: the object; of several processes each adds what its own pixels ask for.
    `curvature`: for waves along x and y, in px²: one of q cycles a pixel has q² times this of a
        single pixel's curvature.
    """

    def __init__(self, canvas: Canvas, ranks: Ranks) -> None:
        self._canvas, self._ranks = canvas, ranks
        self._factor, self._torque = 0, torch.zeros(0, 0)
        self._sums, self.curvature = torch.zeros(3, dtype=torch.float64), (0.0, 0.0)

    def begin(self) -> bool:
        """Begin a pass; return whether the curvature is known, from the pass before."""
        sums, self._sums = self._sums, torch.zeros(3, dtype=torch.float64)
        self._ranks.add(sums)
        if not (sums.isfinite().all() and sums.min() > 0):
            return False
        across, along = self.curvature = float(sums[0] / sums[2]), float(sums[1] / sums[2])
        shape = self._canvas.whole.shape
        shortest = math.sqrt(max(across, along) / _SLOW)
        self._factor = max(1, int(shortest / _FINENESS), math.ceil(max(shape) / _LARGEST))
        height, width = (math.ceil(edge / self._factor) for edge in shape)
        self._torque = torch.zeros(height, width, device=self._canvas.object.device)
        return True

    def look(self, rates: Tensor) -> None:
        """Add to the curvature what rates (B, N, N) on the detector say.

        A ramp of q cycles a pixel shifts a pattern by q N detector pixels, so that its amplitudes
        change by q N ∂A. Relative to a pixel's curvature, Σ A², that is q² times N² Σ (∂A)² / Σ A².
        """
        amplitude = rates.sqrt()
        changes = [(amplitude - amplitude.roll(1, axis)).square().sum() for axis in (-1, -2)]
        edge = rates.shape[-1]
        found = torch.stack([edge**2 * changes[0], edge**2 * changes[1], rates.sum()])
        self._sums += found.double().cpu()

    def gather(self) -> None:
        """Add what the patterns of an update ask of the phase at `canvas.ahead`: Im(O* pull)."""
        canvas = self._canvas
        rows, columns = canvas.own_slices
        across = self._coarse(columns, canvas.box.left - canvas.whole.left)
        for top in range(rows.start, rows.stop, _BAND):
            band = slice(top, min(top + _BAND, rows.stop))
            asked = (canvas.ahead[band, columns].conj() * canvas.pull[band, columns]).imag
            narrow = asked.new_zeros(len(asked), self._torque.shape[1])
            narrow.index_add_(1, across, asked)
            at = self._coarse(band, canvas.box.top - canvas.whole.top)
            self._torque.index_add_(0, at, narrow)

    def move(self, gain: float) -> None:
        """Turn the object by a part of the step, and its velocity with it."""
        self._ranks.add(self._torque)
        turn = self._waves() * gain
        most = float(turn.abs().max())
        if not 0 < most < math.inf:
            return
        turn *= min(1.0, _MOST / most)
        canvas = self._canvas
        height, width = canvas.shape
        left, right, part = self._between(width, canvas.box.left - canvas.whole.left, turn.shape[1])
        turn = turn[:, left] * (1 - part) + turn[:, right] * part
        above, below, part = self._between(height, canvas.box.top - canvas.whole.top, len(turn))
        for top in range(0, height, _BAND):
            band = slice(top, top + _BAND)
            rows = turn[above[band]] * (1 - part[band, None]) + turn[below[band]] * part[band, None]
            factor = torch.polar(torch.ones_like(rows), rows)
            canvas.object[band] *= factor
            canvas.velocity[band] *= factor

    def _waves(self) -> Tensor:
        """Return what was asked for over each wave's curvature, on the coarse grid, in rad."""
        height, width = self._torque.shape
        down = torch.fft.fftfreq(height, self._factor, device=self._torque.device)
        across = torch.fft.rfftfreq(width, self._factor, device=self._torque.device)
        part = self.curvature[1] * down[:, None].square() + self.curvature[0] * across.square()
        inverse = (1 / part.clamp(min=_LEAST) - 1 / _SLOW).clamp(min=0)
        inverse[0, 0] = 0
        spectrum = rfft2(self._torque) * inverse
        return irfft2(spectrum, s=(height, width)) / (self._light() * self._factor**2)

    def _light(self) -> float:
        """Return the mean of L|O|² over the light: a single pixel's curvature where light falls."""
        canvas, sums = self._canvas, torch.zeros(2, dtype=torch.float64)
        rows, columns = canvas.own_slices
        for top in range(rows.start, rows.stop, _BAND):
            band = slice(top, min(top + _BAND, rows.stop))
            light = canvas.root_light[band, columns].square()
            light = light * canvas.object[band, columns].abs().square()
            sums += torch.tensor([float(light.sum()), float(light.square().sum())])
        self._ranks.add(sums)
        return float(sums[1] / sums[0].clamp(min=1e-30))

    def _coarse(self, pixels: slice, first: int) -> Tensor:
        """Return the coarse pixel of each pixel of this process's box."""
        at = torch.arange(pixels.start, pixels.stop, device=self._torque.device)
        return (at + first) // self._factor

    def _between(self, length: int, first: int, number: int) -> tuple[Tensor, Tensor, Tensor]:
        """Return the two coarse pixels around each pixel, and the part that the second has."""
        at = torch.arange(length, device=self._torque.device) + first
        place = ((at + 0.5) / self._factor - 0.5).clamp(0, number - 1)
        low = place.long()
        return low, (low + 1).clamp(max=number - 1), place - low
