"""Patterns seen as float32 amplitudes, whatever they are stored as."""

from typing import Any

import numpy as np
from numpy.typing import NDArray
from typing_extensions import override

from ptychostream.pattern_sources import ChangedPatterns, PatternSource
from ptychostream.scan import MeasurementDomain, to_amplitude

#: Patterns read at once from a source that can only be read from first to last.
_BLOCK = 256


class AmplitudePatterns(ChangedPatterns):
    """Amplitudes, the square root of counts, of any source; readable by row.

    `domain`: what the source holds: `counts` or `amplitude`.
    `bad_pixels` (N, N): True where the detector can't be trusted; such pixels are zero.
    """

    def __init__(
        self,
        source: PatternSource,
        domain: MeasurementDomain,
        bad_pixels: NDArray[np.bool_] | None = None,
    ) -> None:
        super().__init__(source)
        self.random_access = True
        self._domain, self._bad_pixels = domain, bad_pixels

    @property
    @override
    def dtype(self) -> np.dtype[Any]:
        return np.dtype(np.float32)

    @override
    def read(self, rows: NDArray[np.int64]) -> NDArray[np.float32]:
        unique, inverse = np.unique(np.asarray(rows, dtype=np.int64), return_inverse=True)
        if self._source.random_access:
            return self.change(self._source.read(unique))[inverse]
        found = np.empty((len(unique), *self.shape[1:]), np.float32)
        start = at = 0
        for block in self._source.blocks(_BLOCK):
            stop = start + len(block)
            end = int(np.searchsorted(unique, stop))
            found[at:end] = self.change(block[unique[at:end] - start])
            start, at = stop, end
            if at == len(unique):
                break
        return found[inverse]

    @override
    def change(self, patterns: NDArray[Any]) -> NDArray[np.float32]:
        return to_amplitude(patterns, self._domain, self._bad_pixels)
