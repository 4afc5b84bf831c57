"""Many experiments: every object with every probe and every scan pattern."""

from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ptychostream.errors import ConfigurationError
from ptychostream.scan import Scan
from ptychostream.simulation.checks import check_seed
from ptychostream.simulation.experiment import simulate_scan


class SimulatedExperiments(Sequence[Scan]):
    """Experiments that are made when they are read; returned by `simulate_experiments`."""

    def __init__(
        self, choices: Sequence[tuple[Any, Any, Any]], seed: int, options: dict[str, Any]
    ) -> None:
        self._choices, self._seed, self._options = choices, seed, options

    def __len__(self) -> int:
        return len(self._choices)

    def __getitem__(self, index: Any) -> Any:
        if isinstance(index, slice):
            raise ConfigurationError("take experiments one by one: their index is their seed")
        if not -len(self) <= index < len(self):
            raise IndexError(f"experiment {index} of {len(self)}")
        index %= len(self)
        seed = int(np.random.SeedSequence((self._seed, index)).generate_state(1)[0])
        names = ("object", "probe", "scan_pattern")
        choice = dict(zip(names, self._choices[index], strict=True))
        scan = simulate_scan(**choice, seed=seed, **self._options)
        return replace(scan, name=f"simulated experiment {index}")

    def in_parallel(self, workers: int) -> Iterator[Scan]:
        """Make all experiments on several threads, in order.

        Raises
        ------
        ConfigurationError
            If there is no worker.
        """
        if workers < 1:
            raise ConfigurationError(f"workers={workers} must be at least 1")
        with ThreadPoolExecutor(workers) as pool:
            yield from pool.map(self.__getitem__, range(len(self)))


def simulate_experiments(
    *,
    objects: Sequence[str | Path | NDArray[np.complex64]],
    probes: Sequence[str | Path | NDArray[np.complex64]] = ("fresnel_zone_plate",),
    scan_patterns: Sequence[str | Path | NDArray[np.float64]] = ("jittered_raster",),
    repeats: int = 1,
    seed: int = 0,
    **options: Any,
) -> SimulatedExperiments:
    """Simulate every object with every probe and every scan pattern.

    Parameters
    ----------
    objects : sequence of str, Path or (H, W) complex64
        As `object` of `simulate_scan`.
    probes : sequence of str, Path or (P, N, N) complex64
        As `probe`.
    scan_patterns : sequence of str, Path or (M, 2) float64
        As `scan_pattern`.
    repeats : int
        Times each combination is drawn anew.
    seed : int
        Together with its index, the seed of each experiment.
    **options
        Further arguments of `simulate_scan`, the same for all.

    Returns
    -------
    SimulatedExperiments
        A sequence of scans. The scan pattern changes fastest, then the probe, then the object,
        then the repeat, so that more repeats leave the first ones as they are.

    Raises
    ------
    ConfigurationError
        If there is nothing to simulate, or the seed is negative.

    Examples
    --------
    >>> experiments = simulate_experiments(
    ...     objects=["dead_leaves", "lines"], repeats=3, N=16, num_positions=4
    ... )
    >>> len(experiments), experiments[5].provenance["simulated"]["object"]
    (6, 'lines')
    """
    if repeats < 1 or not (len(objects) and len(probes) and len(scan_patterns)):
        raise ConfigurationError(
            f"{repeats} repeats of {len(objects)} objects, {len(probes)} probes and "
            f"{len(scan_patterns)} scan patterns are no experiments; give at least one of each"
        )
    check_seed(seed)
    choices = [*product(objects, probes, scan_patterns)] * repeats
    return SimulatedExperiments(choices, seed, options)
