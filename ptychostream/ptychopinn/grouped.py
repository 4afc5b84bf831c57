"""Choose groups of raw data by policy, and gather them as the grouped dictionary."""

from dataclasses import replace
from typing import Any, Literal, Protocol

import numpy as np
from numpy.typing import NDArray

from ptychostream.datasets.grouping.draw import draw_groups, draw_upstream_groups
from ptychostream.datasets.grouping.parameters import GroupingParameters
from ptychostream.datasets.sources.amplitude import AmplitudePatterns
from ptychostream.datasets.store.group_store import GroupStore
from ptychostream.errors import DataContractError
from ptychostream.geometry import split_coordinates
from ptychostream.ptychopinn.labels import cut_in_single_precision, cut_labels
from ptychostream.ptychopinn.spec import grouped_dictionary, normalisation_factor
from ptychostream.scan import Scan

Labels = Literal["true", "mirrored"]


class GroupSource(Protocol):
    """What groups are gathered from.

    `positions_start` (M, 2), `Y` (M, N, N).
    `sample_indices` (M,): rows of the file, where patterns were drawn from it.
    """

    scan: Scan
    amplitude: AmplitudePatterns
    Y: NDArray[Any] | None
    sample_indices: NDArray[np.int64] | None

    @property
    def positions_start(self) -> NDArray[np.float64]:
        """Nominal positions (M, 2)."""


def choose_groups(
    positions: NDArray[np.float64],
    parameters: GroupingParameters,
    seed: int | None,
    store: GroupStore | None = None,
) -> NDArray[Any]:
    """Choose groups (G, C) of positions (M, 2); None as seed draws fresh ones.

    `store`: a store of these positions alone: it keeps the groups, and finds those kept earlier.
    """
    if parameters.policy == "upstream":
        return draw_upstream_groups(positions, parameters, seed, np.random)
    if (
        parameters.gridsize > 1
        and (parameters.num_groups or 0) > len(positions)
        and not parameters.enable_oversampling
    ):
        raise DataContractError(
            f"{parameters.num_groups} groups asked for but there are {len(positions)} positions; "
            "ask for fewer, or set enable_oversampling"
        )
    if store is not None and seed is not None:
        return store.kept_groups(replace(parameters, seed=seed)).nn_indices
    return draw_groups(positions, parameters, np.random.default_rng(seed))


def gather(
    source: GroupSource, nn_indices: NDArray[Any], *, labels: Labels = "true"
) -> dict[str, Any]:
    """Gather groups (B, C) of raw data, their labels cut at `true` or `mirrored` positions."""
    number, size = nn_indices.shape
    scan, edge = source.scan, source.scan.N
    stacked = source.amplitude.read(nn_indices.ravel()).reshape(number, size, edge, edge)
    diffraction = np.ascontiguousarray(np.moveaxis(stacked, 1, -1))
    grouped = grouped_dictionary(
        diffraction,
        nn_indices,
        scan.positions,
        source.positions_start,
        factor=np.full(number, normalisation_factor(diffraction)),
        labels=labels_of(source, nn_indices, labels),
        object_guess=scan.object_guess,
    )
    if source.sample_indices is not None:
        grouped["sample_indices"] = source.sample_indices[nn_indices]
    return grouped


def labels_of(
    source: GroupSource, nn_indices: NDArray[Any], labels: Labels
) -> NDArray[np.complex64] | None:
    """Cut or pick the true patches (B, N, N, C) of each group."""
    scan = source.scan
    if source.Y is not None:
        patches = np.asarray(source.Y, np.complex64)[nn_indices]
        return np.ascontiguousarray(np.moveaxis(patches, 1, -1))
    if scan.object_guess is None:
        return None
    if labels == "true":
        return cut_labels(scan.object_guess, scan.positions[nn_indices], scan.N)
    offsets, relative = split_coordinates(scan.positions, nn_indices)
    mirrored = (offsets[:, None] + relative).reshape(-1, 2)
    cut = cut_in_single_precision(scan.object_guess, mirrored, scan.N)
    return np.moveaxis(cut.reshape(*nn_indices.shape, scan.N, scan.N), 1, -1)
