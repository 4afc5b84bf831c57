"""Choose groups by policy, and gather them as the specification's dictionary."""

from dataclasses import replace
from typing import Any, Literal, Protocol

import numpy as np
from numpy.typing import NDArray

from ptychostream.datasets.grouping.draw import draw_groups, draw_upstream_groups
from ptychostream.datasets.grouping.parameters import GroupingParameters, Policy
from ptychostream.datasets.sources.amplitude import AmplitudePatterns
from ptychostream.datasets.store.group_store import GroupStore
from ptychostream.errors import DataContractError
from ptychostream.geometry import split_coordinates
from ptychostream.ptychopinn.labels import cut_labels, cut_labels_in_single_precision
from ptychostream.ptychopinn.spec import normalisation_factor
from ptychostream.scan import Scan

Labels = Literal["true", "mirrored"]


class GroupSource(Protocol):
    """What groups are gathered from.

    Attributes
    ----------
    positions_start : (M, 2) float64
        Nominal positions.
    Y : (M, N, N) complex64, optional
        True patches.
    sample_indices : (M,) int64, optional
        Rows of the file, where patterns were drawn from it.
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
    *,
    gridsize: int,
    neighbor_count: int,
    num_groups: int,
    seed: int | None,
    sequential: bool,
    oversample: bool,
    pool_size: int | None,
    policy: Policy,
    store: GroupStore | None = None,
) -> NDArray[Any]:
    """Choose groups as a policy has it.

    Parameters
    ----------
    positions : (M, 2) float64
        Scan positions (x, y), in pixels.
    store : GroupStore, optional
        Keeps the groups, and has those kept earlier, where it holds these positions alone.

    Returns
    -------
    (G, C) int
        Rows of `positions`.

    Raises
    ------
    ConfigurationError
        If there is no such policy.
    DataContractError
        If groups can't be filled.
    """
    parameters = GroupingParameters(
        gridsize=gridsize,
        neighbor_count=neighbor_count,
        num_groups=num_groups,
        sequential=sequential,
        enable_oversampling=oversample,
        # Existing callers name a pool whether they oversample or not.
        neighbor_pool_size=pool_size if oversample else None,
        policy=policy,
    )
    if policy == "upstream":
        return draw_upstream_groups(positions, parameters, seed, np.random)
    if gridsize > 1 and num_groups > len(positions) and not oversample:
        raise DataContractError(
            f"{num_groups} groups asked for but there are {len(positions)} positions; ask for "
            "fewer, or set enable_oversampling"
        )
    if store is not None and seed is not None:
        return store.kept_groups(replace(parameters, seed=seed)).nn_indices
    return draw_groups(positions, parameters, np.random.default_rng(seed))


def grouped_dictionary(
    source: GroupSource, nn_indices: NDArray[Any], *, labels: Labels = "true"
) -> dict[str, Any]:
    """Gather groups as the specification's dictionary.

    Parameters
    ----------
    nn_indices : (B, C) int
        Rows that form each group.
    labels : str
        Where labels are cut: at `true` positions, or `mirrored` in the group's centre.
    """
    number, size = nn_indices.shape
    scan, edge = source.scan, source.scan.N
    stacked = source.amplitude.read(nn_indices.ravel()).reshape(number, size, edge, edge)
    diffraction = np.ascontiguousarray(np.moveaxis(stacked, 1, -1))
    parts: dict[str, NDArray[Any]] = {}
    for prefix, positions in (
        ("coords", scan.positions),
        ("coords_start", source.positions_start),
    ):
        offsets, relative = split_coordinates(positions, nn_indices)
        parts[f"{prefix}_offsets"] = offsets[:, None, :, None]
        parts[f"{prefix}_relative"] = _channels_last(relative)
        parts[f"{prefix}_nn"] = _channels_last(positions[nn_indices])
    grouped: dict[str, Any] = {
        "diffraction": diffraction,
        "Y": _labels(source, nn_indices, labels),
        "coords_offsets": parts["coords_offsets"],
        "coords_relative": parts["coords_relative"],
        "coords_start_offsets": parts["coords_start_offsets"],
        "coords_start_relative": parts["coords_start_relative"],
        "coords_nn": parts["coords_nn"],
        "coords_start_nn": parts["coords_start_nn"],
        "nn_indices": nn_indices,
        "objectGuess": scan.object_guess,
        "X_full": (diffraction * normalisation_factor(diffraction)).astype(np.float32),
    }
    if source.sample_indices is not None:
        grouped["sample_indices"] = source.sample_indices[nn_indices]
    return grouped


def _channels_last(pairs: NDArray[np.float64]) -> NDArray[np.float64]:
    """(B, C, 2) → (B, 1, 2, C)."""
    return np.ascontiguousarray(np.moveaxis(pairs, 1, -1))[:, None]


def _labels(
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
    mirrored = offsets[:, None] + relative
    return cut_labels_in_single_precision(scan.object_guess, mirrored, scan.N)
