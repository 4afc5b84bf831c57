"""The store to reconstruct: a named one, or one made of the loaded patterns."""

import logging
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from ptychodus.api.product import Product
from ptychodus.api.reconstruct import ReconstructInput
from typing_extensions import override

from ptychodus_ext.application import Application
from ptychodus_ext.convert import left_out, product_of_store, scan_of
from ptychodus_ext.settings import StreamSettings
from ptychodus_ext.words import in_the_window, in_words
from ptychostream.datasets.sources.examine import examined_scan
from ptychostream.datasets.store import GroupStore, build_group_store, open_group_store
from ptychostream.errors import DataContractError
from ptychostream.geometry import ObjectGrid, object_grid
from ptychostream.pattern_sources import DerivedPatterns, PatternSource

logger = logging.getLogger("ptychostream.ptychodus")

#: Where the progress bar of every run ends, and where copying the patterns ends.
GOAL = 100
_COPYING = 3


@dataclass(frozen=True)
class Measured:
    """The data to reconstruct.

    `grid`: height, width and origin (x, y) of the object's grid.
    """

    store: str
    experiment: int
    num_patterns: int
    grid: tuple[int, int, tuple[float, float]]
    product: Product


class StoppedError(Exception):
    """The user or the application asked to stop."""


class _Patterns(DerivedPatterns):
    """Patterns that report progress while they are copied, and raise StoppedError on a stop."""

    def __init__(self, source: PatternSource, application: Application) -> None:
        super().__init__(source)
        self._application, self._num_read = application, 0

    @override
    def read(self, rows: NDArray[np.int64]) -> NDArray[Any]:
        if self._application.should_stop():
            raise StoppedError
        self._num_read += len(rows)
        self._application.show_progress(
            min(_COPYING, 1 + _COPYING * self._num_read // self.shape[0]), GOAL
        )
        return self._source.read(rows)


def find_measured(
    parameters: ReconstructInput, settings: StreamSettings, folder: Path, application: Application
) -> Measured:
    """Open the store in the settings, else write the loaded patterns into one."""
    if settings.store_path is not None:
        experiment = int(settings.data.values()["experiment"])
        return _of_store(settings.store_path, experiment, parameters.product)
    store = write_store([parameters], folder / "patterns.zarr", application)
    obj = parameters.product.object_
    grid = (obj.height_px, obj.width_px, (0, 0))
    return Measured(str(store.path), 0, store.num_patterns, grid, parameters.product)


def write_store(
    inputs: Sequence[ReconstructInput], path: Path, application: Application
) -> GroupStore:
    """Write the loaded patterns into a store, each input as an experiment of its own."""
    with in_the_window("ptychostream.datasets"):
        try:
            return _write_store(inputs, path, application)
        except DataContractError as error:
            raise DataContractError(in_words(str(error))) from error


def _write_store(
    inputs: Sequence[ReconstructInput], path: Path, application: Application
) -> GroupStore:
    scans = [scan_of(parameters) for parameters in inputs]
    for scan in scans:
        logger.info("preparing %d patterns of %s", scan.num_patterns, scan.name)
    application.show_progress(1, GOAL)
    application.show_log()
    scans = [examined_scan(scan) for scan in scans]
    for parameters in inputs:
        for sentence in left_out(parameters.product):
            logger.warning("%s", sentence)
    watched = [replace(s, patterns=_Patterns(s.patterns, application)) for s in scans]
    return build_group_store(watched, path, progress=False)


def _of_store(path: Path, experiment: int, product: Product) -> Measured:
    store = open_group_store(path.resolve())
    if experiment >= store.num_experiments:
        raise DataContractError(
            f"'{path}' has no experiment {experiment}, it holds {store.num_experiments}; correct "
            "[PtychoStreamData] Experiment"
        )
    positions = store.positions[store.rows(experiment)]
    obj = product.object_
    own = object_grid(positions, store.N)
    grid = ObjectGrid(obj.height_px, obj.width_px)
    # The grid of the input object if it holds every patch; that of a placeholder is too small.
    is_inside = not any(own.origin) and own.height <= grid.height and own.width <= grid.width
    if not is_inside:
        guess = store.object_guess_of(experiment)
        grid = own if guess is None else ObjectGrid(*guess.shape)
        logger.info(
            "the store does not fit the product's object of %d x %d px: its own grid of %d x %d "
            "px is taken",
            obj.height_px,
            obj.width_px,
            *grid.shape,
        )
    return Measured(
        str(store.path),
        experiment,
        len(positions),
        (*grid.shape, grid.origin),
        product_of_store(product, positions, grid, store.pattern_numbers(experiment)),
    )
