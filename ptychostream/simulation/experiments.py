"""Many experiments: every object with every probe and every scan pattern."""

from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from itertools import islice, product
from pathlib import Path
from typing import Any, overload

import numpy as np
from numpy.typing import NDArray

from ptychostream.errors import ConfigurationError
from ptychostream.scan import Scan
from ptychostream.simulation.experiment import simulate_scan
from ptychostream.simulation.seeds import check_seed, experiment_seed


class SimulatedExperiments(Sequence[Scan]):
    """Experiments that are made when they are asked for; made by `simulate_experiments`.

    Parameters
    ----------
    choices : sequence of tuple
        Object, probe and scan pattern of each experiment.
    seed : int
        With the index, decides an experiment.
    """

    def __init__(
        self, choices: Sequence[tuple[Any, Any, Any]], seed: int, options: dict[str, Any]
    ) -> None:
        self._choices, self._seed, self._options = choices, seed, options

    def __len__(self) -> int:
        return len(self._choices)

    @overload
    def __getitem__(self, index: int) -> Scan: ...
    @overload
    def __getitem__(self, index: slice) -> "SimulatedExperiments": ...
    def __getitem__(self, index: int | slice) -> "Scan | SimulatedExperiments":
        if isinstance(index, slice):
            raise ConfigurationError("take experiments one by one: their index is their seed")
        if not -len(self) <= index < len(self):
            raise IndexError(f"experiment {index} of {len(self)}")
        index %= len(self)
        target, probe, pattern = self._choices[index]
        scan = simulate_scan(
            object=target,
            probe=probe,
            scan_pattern=pattern,
            seed=experiment_seed(self._seed, index),
            **self._options,
        )
        return replace(scan, name=f"simulated experiment {index}")

    def in_parallel(self, workers: int) -> Iterator[Scan]:
        """Make all experiments on several threads.

        Raises
        ------
        ConfigurationError
            If there is no worker.
        """
        if workers < 1:
            raise ConfigurationError(f"workers={workers} must be at least 1")
        with ThreadPoolExecutor(workers) as pool:
            indices = iter(range(len(self)))
            running = [pool.submit(self.__getitem__, index) for index in islice(indices, workers)]
            while running:
                scan = running.pop(0).result()
                running += [pool.submit(self.__getitem__, index) for index in islice(indices, 1)]
                yield scan


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
        With its index, decides each experiment.
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
