"""Patterns read by one of ptychodus's readers: `--reader NAME`."""

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from typing_extensions import override

from ptychostream.datasets.sources.parts import ScanParts
from ptychostream.errors import ConfigurationError, DataContractError, MissingPartError
from ptychostream.pattern_sources import OpenedPatterns
from ptychostream.scan import ScanMetadata


def read_with_ptychodus(path: Path, name: str, measurement_domain: Any = None) -> ScanParts:
    """Read patterns and geometry with a reader of ptychodus; it streams where that reader does."""
    try:
        from ptychodus.api.plugins import PluginRegistry
    except ImportError as error:
        raise MissingPartError(
            f"reader={name!r} needs ptychodus: pip install 'ptychostream[ptychodus]'"
        ) from error
    registry = PluginRegistry.load_plugins()
    plugins = {plugin.simple_name: plugin for plugin in registry.diffraction_file_readers}
    if name not in plugins:
        raise ConfigurationError(
            f"ptychodus has no reader {name!r}; it has {', '.join(sorted(plugins))}"
        )
    dataset = plugins[name].strategy.read(path)
    if not len(dataset):
        raise DataContractError(f"ptychodus's reader {name} finds no patterns in '{path}'")
    metadata = dataset.get_metadata()
    bad = dataset.get_bad_pixels()
    energy = getattr(metadata, "photon_energy_eV", None)
    energy = getattr(metadata, "probe_energy_eV", None) if energy is None else energy
    geometry = metadata.detector_pixel_geometry
    return ScanParts(
        name=f"'{path}'",
        patterns=DiffractionPatterns(dataset),
        measurement_domain=measurement_domain or "counts",
        bad_pixels=None if bad is None or not np.any(bad) else np.asarray(bad, bool),
        metadata=ScanMetadata(
            energy_eV=energy,
            detector_distance_m=metadata.detector_distance_m,
            detector_pixel_size_m=None if geometry is None else geometry.width_m,
        ),
        provenance={"format": f"ptychodus {name}", "file": path.name},
        looked_for={
            "positions": "has its positions elsewhere, as ptychodus has it",
            "probe": "has no probe, as ptychodus has it",
        },
    )


class DiffractionPatterns(OpenedPatterns):
    """The arrays of a dataset of ptychodus, one after another."""

    def __init__(self, dataset: Any) -> None:
        self._arrays = list(dataset)
        numbers = [array.get_num_patterns() for array in self._arrays]
        self._starts = np.cumsum([0, *numbers])
        first = np.asarray(self._arrays[0].get_patterns())
        self._shape = (int(self._starts[-1]), *first.shape[-2:])
        self._dtype = first.dtype
        self._cached = (0, first)

    #: Each array is loaded whole.
    random_access = False

    @override
    def read(self, rows: NDArray[np.int64]) -> NDArray[Any]:
        rows = np.asarray(rows)
        out = np.empty((len(rows), *self._shape[1:]), self._dtype)
        which = np.searchsorted(self._starts, rows, side="right") - 1
        for number in np.unique(which):
            if self._cached[0] != number:
                patterns = np.asarray(self._arrays[number].get_patterns())
                self._cached = (int(number), patterns)
            here = which == number
            out[here] = self._cached[1][rows[here] - self._starts[number]]
        return out
