"""A square window of the detector around the zero frequency, before shapes are judged."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from typing_extensions import override

from ptychostream.pattern_sources import ChangedPatterns, DerivedPatterns, PatternSource


@dataclass(frozen=True)
class Window:
    """A square part of a detector, which may reach over its edge.

    Attributes
    ----------
    top : int
        Row of the detector at which it begins; may be negative.
    left : int
        Column of the detector at which it begins; may be negative.
    edge : int
        Its edge in pixels; the zero frequency lies at its pixel (edge/2, edge/2).
    """

    top: int
    left: int
    edge: int

    @classmethod
    def around(cls, centre: tuple[float, float], edge: int) -> "Window":
        """Return the window whose pixel (edge/2, edge/2) is nearest to a point (x, y)."""
        return cls(round(centre[1]) - edge // 2, round(centre[0]) - edge // 2, edge)

    def is_whole(self, shape: tuple[int, int]) -> bool:
        """Return whether it is all of the detector (H, W)."""
        return (self.top, self.left) == (0, 0) and shape == (self.edge, self.edge)

    def cut(self, images: NDArray[Any], fill: Any = 0) -> NDArray[Any]:
        """Cut images (…, H, W) to the window; what lies beyond the detector becomes `fill`."""
        height, width = images.shape[-2:]
        bottom, right = self.top + self.edge, self.left + self.edge
        rows = slice(max(self.top, 0), max(min(bottom, height), 0))
        columns = slice(max(self.left, 0), max(min(right, width), 0))
        part = images[..., rows, columns]
        if part.shape[-2:] == (self.edge, self.edge):
            return part
        out = np.full((*images.shape[:-2], self.edge, self.edge), fill, images.dtype)
        row, column = rows.start - self.top, columns.start - self.left
        out[..., row : row + part.shape[-2], column : column + part.shape[-1]] = part
        return out


class WindowedPatterns(ChangedPatterns):
    """Patterns of which a window is read, after their quadrants are swapped where needed."""

    def __init__(self, source: PatternSource, window: Window, *, swap_quadrants: bool) -> None:
        super().__init__(source)
        self._window, self._swap = window, swap_quadrants

    @property
    @override
    def shape(self) -> tuple[int, int, int]:
        return self._source.shape[0], self._window.edge, self._window.edge

    @override
    def change(self, block: NDArray[Any]) -> NDArray[Any]:
        if self._swap:
            block = np.fft.fftshift(block, axes=(-2, -1))
        return np.ascontiguousarray(self._window.cut(block))


class CleanPatterns(DerivedPatterns):
    """Patterns whose values are checked while they are read.

    Parameters
    ----------
    bad : (H, W) bool
        Pixels that are flagged already, whatever they hold.
    ceiling : float, optional
        Value from which on a pixel is no measurement.
    skip : frozenset of int
        Patterns with such values that were reported already.
    zero_negative : bool
        Whether negative values become zero.
    """

    def __init__(
        self,
        source: PatternSource,
        bad: NDArray[np.bool_],
        *,
        ceiling: float | None,
        skip: frozenset[int],
        zero_negative: bool,
        name: str,
    ) -> None:
        super().__init__(source)
        self._bad, self._ceiling, self._skip = bad, ceiling, skip
        self._zero_negative, self._name = zero_negative, name
        good = np.flatnonzero(~bad)
        # Some pixels tell quickly that a pattern is not one value all over.
        self._spots = good[:: max(1, len(good) // 8)]

    @override
    def read(self, rows: NDArray[np.int64]) -> NDArray[Any]:
        return self._checked(self._source.read(rows), np.asarray(rows))

    @override
    def blocks(self, length: int) -> Iterator[NDArray[Any]]:
        start = 0
        for block in self._source.blocks(length):
            yield self._checked(block, np.arange(start, start + len(block)))
            start += len(block)

    def _checked(self, block: NDArray[Any], rows: NDArray[np.int64]) -> NDArray[Any]:
        # The maximum is computed quickly; the rest is rarely needed.
        if self._ceiling is not None and block.size and not np.max(block) < self._ceiling:
            from ptychostream.datasets.sources.survey import UnflaggedValuesError

            known = np.isin(rows, list(self._skip))
            high = (block >= self._ceiling) & ~self._bad & ~known[:, None, None]
            if high.any():
                frame, row, column = np.argwhere(high)[0]
                raise UnflaggedValuesError(
                    f"{self._name}: pattern {rows[frame]} holds {block[frame, row, column]:g} at "
                    f"row {row}, column {column}, which is no count but the largest value of its "
                    "type or the saturation; look at all patterns (--look all), and such pixels "
                    "are flagged"
                )
        seen = block.reshape(len(block), -1)[:, self._spots]
        flat = (seen == seen[:, :1]).all(axis=1) & (seen[:, 0] > 0) if seen.size else []
        for frame in np.flatnonzero(flat):
            from ptychostream.datasets.sources.survey import UnflaggedValuesError

            value = block[frame][~self._bad]
            if rows[frame] not in self._skip and (value == value[0]).all() and value.size > 1:
                raise UnflaggedValuesError(
                    f"{self._name}: pattern {rows[frame]} holds {value[0]:g} all over and is "
                    "no measurement; look at all patterns (--look all), and all such are named"
                )
        if self._zero_negative and block.dtype.kind in "if" and (block < 0).any():
            block = np.where(block < 0, block.dtype.type(0), block)
        return block
