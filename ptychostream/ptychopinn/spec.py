"""The specification's grouped dictionary: numpy, channels last; and the way back to a batch."""

from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from tensordict import TensorDict

from ptychostream.datasets.batches.batch import check_batch
from ptychostream.datasets.grouping.table import Groups
from ptychostream.datasets.store.group_store import GroupStore
from ptychostream.errors import DataContractError
from ptychostream.geometry import split_coordinates
from ptychostream.ptychopinn.labels import cut_labels_of_experiments
from ptychostream.scan import to_amplitude


def normalisation_factor(diffraction: NDArray[Any]) -> float:
    """Factor that brings the mean energy of patterns to (N/2)².

    Parameters
    ----------
    diffraction : (B, N, N, C)
        Amplitudes, of any real type.
    """
    edge = diffraction.shape[1]
    energy = np.sum(np.square(diffraction, dtype=np.float64), axis=(1, 2)).mean()
    if energy <= 0:
        raise DataContractError("all patterns are zero: they can't be normalised")
    return float(np.sqrt((edge / 2) ** 2 / energy))


def group_normalisation(store: GroupStore, groups: Groups) -> NDArray[np.float64]:
    """Factors that bring the mean energy of all grouped patterns to (N/2)², per experiment.

    Parameters
    ----------
    groups : Groups
        The groups; a pattern counts as often as it is in one.

    Returns
    -------
    (E,) float64
        The factors; 1 for an experiment that has no group.

    Raises
    ------
    DataContractError
        If all patterns of an experiment's groups are zero.
    """
    members = groups.nn_indices
    experiment = store.experiment_id[members[:, 0]]
    number = np.bincount(experiment, minlength=store.num_experiments) * members.shape[1]
    energy = np.bincount(
        experiment, store.total_counts[members].sum(axis=1), minlength=store.num_experiments
    )
    if ((energy <= 0) & (number > 0)).any():
        raise DataContractError("all patterns are zero: they can't be normalised")
    mean = np.where(number > 0, energy / np.maximum(number, 1), (store.N / 2) ** 2)
    return (store.N / 2) / np.sqrt(mean)


def grouped_dictionary(
    diffraction: NDArray[np.float32],
    members: NDArray[Any],
    positions: NDArray[np.float64],
    positions_start: NDArray[np.float64],
    *,
    factor: NDArray[np.floating],
    labels: NDArray[np.complex64] | None,
    object_guess: NDArray[np.complex64] | None,
) -> dict[str, Any]:
    """Build the grouped dictionary from arrays.

    Parameters
    ----------
    diffraction : (B, N, N, C) float32
        Measured amplitude.
    members : (B, C) int
        Rows of `positions` that form each group.
    positions, positions_start : (M, 2) float64
        Scan positions (x, y) and nominal ones, in pixels.
    factor : (B,) float
        To a mean energy of (N/2)².
    labels : (B, N, N, C) complex64, optional
        True patches.
    """
    scale = factor.astype(np.float32)[:, None, None, None]
    offsets, relative, nearest = _coordinates(positions, members)
    start_offsets, start_relative, start_nearest = _coordinates(positions_start, members)
    return {
        "diffraction": diffraction,
        "Y": labels,
        "coords_offsets": offsets,
        "coords_relative": relative,
        "coords_start_offsets": start_offsets,
        "coords_start_relative": start_relative,
        "coords_nn": nearest,
        "coords_start_nn": start_nearest,
        "nn_indices": members,
        "objectGuess": object_guess,
        "X_full": (diffraction * scale).astype(np.float32, copy=False),
    }


def _coordinates(
    positions: NDArray[np.float64], members: NDArray[Any]
) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.float64]]:
    """Find centres (B, 1, 2, 1), centre minus member and member (B, 1, 2, C) of groups."""
    offsets, relative = split_coordinates(positions, members)
    return (
        offsets[:, None, :, None],
        np.ascontiguousarray(np.moveaxis(relative, 1, -1))[:, None],
        np.ascontiguousarray(np.moveaxis(positions[members], 1, -1))[:, None],
    )


def objects_of(store: GroupStore) -> list[NDArray[np.complex64] | None]:
    """Read the object of every experiment; None where it is not known."""
    return [store.object_guess_of(number) for number in range(store.num_experiments)]


def dictionary_of_store(
    store: GroupStore,
    diffraction: NDArray[np.float32],
    members: NDArray[np.int64],
    *,
    factors: NDArray[np.float64],
    objects: list[NDArray[np.complex64] | None],
) -> dict[str, Any]:
    """Build the grouped dictionary of a store's groups from their amplitudes.

    Parameters
    ----------
    factors : (E,) float64
        From `group_normalisation`.
    objects : list of (H, W) complex64 or None
        From `objects_of`.
    """
    experiment = store.experiment_id[members[:, 0]]
    grouped = grouped_dictionary(
        diffraction,
        members,
        store.positions,
        store.positions_start,
        factor=factors[experiment],
        labels=cut_labels_of_experiments(objects, experiment, store.positions[members], store.N),
        object_guess=objects[0] if len(objects) == 1 else None,
    )
    return grouped | {"experiment_id": experiment}


def to_spec_dict(
    store: GroupStore, groups: Groups, rows: NDArray[np.int64] | None = None
) -> dict[str, Any]:
    """Gather groups as PtychoPINN's dictionary.

    A group's entries do not depend on the other rows: blocks of rows, joined, are the whole.

    Parameters
    ----------
    store : GroupStore
        The patterns.
    groups : Groups
        Which patterns are seen together.
    rows : (B,) int, optional
        Rows of the group table; None is all of them, which are then in memory at once.

    Returns
    -------
    dict
        `diffraction`, `X_full` (B, N, N, C) float32 amplitude, measured and normalised such that
        the mean energy of all grouped patterns is (N/2)²; flagged pixels are zero. `Y`
        (B, N, N, C) complex64 true patches, or None without an object guess; `coords_offsets`,
        `coords_start_offsets` (B, 1, 2, 1), `coords_relative`, `coords_nn`,
        `coords_start_relative`, `coords_start_nn` (B, 1, 2, C) float64 px; `nn_indices` (B, C)
        int64; `objectGuess`, of a store's only experiment; `experiment_id` (B,).
    """
    members = groups.nn_indices if rows is None else groups.nn_indices[np.asarray(rows)]
    number, size = members.shape
    stored = store.diffraction(members.ravel()).reshape(number, size, store.N, store.N)
    bad = store.bad_pixels[store.experiment_id[members[:, 0]]]
    flagged = bad[:, None] if bad.any() else None
    amplitude = to_amplitude(stored, store.measurement_domain, flagged)
    diffraction = np.ascontiguousarray(np.moveaxis(amplitude, 1, -1))
    return dictionary_of_store(
        store,
        diffraction,
        members,
        factors=group_normalisation(store, groups),
        objects=objects_of(store),
    )


def from_spec_dict(
    spec: dict[str, Any],
    probe: NDArray[np.complex64] | None = None,
    *,
    physics_scale: float = 1.0,
) -> TensorDict:
    """Turn PtychoPINN's dictionary into a batch.

    Parameters
    ----------
    spec : dict
        At least `diffraction`, `coords_offsets`, `coords_relative` and `nn_indices`. With
        `X_full`, amplitudes are normalised as they are there; else over these groups.
    probe : (P, N, N) or (E, P, N, N) complex64, optional
        Checked against the patterns' edge; batches themselves carry no probe.
    physics_scale : float
        Factor from measured amplitude to √photons.

    Returns
    -------
    TensorDict
        A batch as `datasets.batch.ENTRIES` has it.

    Raises
    ------
    DataContractError
        If a key is missing, or the shapes do not fit.
    """
    needed = ("diffraction", "coords_offsets", "coords_relative", "nn_indices")
    missing = [key for key in needed if spec.get(key) is None]
    if missing:
        raise DataContractError(f"the dictionary lacks {', '.join(map(repr, missing))}")
    amplitude = np.moveaxis(np.asarray(spec["diffraction"], dtype=np.float32), -1, 1)
    number, edge = len(amplitude), amplitude.shape[-1]
    if probe is not None and probe.shape[-2:] != (edge, edge):
        raise DataContractError(f"the probe is {probe.shape} but patterns are {edge} px")
    members = np.asarray(spec["nn_indices"], dtype=np.int64).reshape(number, -1)
    experiment = np.asarray(spec.get("experiment_id", np.zeros(number)), dtype=np.int64)
    factor = _factor_of(spec, experiment)
    entries = {
        "diffraction": np.ascontiguousarray(amplitude),
        "coords_offsets": np.moveaxis(spec["coords_offsets"], -1, 1).astype(np.float32),
        "coords_relative": np.moveaxis(spec["coords_relative"], -1, 1).astype(np.float32),
        "nn_indices": members,
        "experiment_id": experiment,
        "rms_scale": factor.astype(np.float32)[:, None, None, None],
        "physics_scale": np.full((number, 1, 1, 1), physics_scale, np.float32),
    }
    batch = TensorDict(
        {name: torch.from_numpy(np.ascontiguousarray(value)) for name, value in entries.items()},
        batch_size=[number],
    )
    check_batch(batch)
    return batch


def _factor_of(spec: dict[str, Any], experiment: NDArray[np.int64]) -> NDArray[np.float64]:
    """Find the factor (B,) from measured to normalised amplitude that a dictionary has."""
    measured = np.asarray(spec["diffraction"])
    if spec.get("X_full") is None:
        return np.full(len(measured), normalisation_factor(measured))
    factor = np.ones(len(measured))
    for number in np.unique(experiment):
        rows = experiment == number
        energies = [
            np.square(np.asarray(part)[rows], dtype=np.float64).sum()
            for part in (spec["X_full"], measured)
        ]
        factor[rows] = np.sqrt(energies[0] / energies[1]) if energies[1] else 1.0
    return factor
