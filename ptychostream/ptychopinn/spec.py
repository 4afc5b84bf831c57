"""The specification's grouped dictionary: numpy, channels last; and the way back to a batch."""

from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from tensordict import TensorDict

from ptychostream.datasets.batches.batch import check_batch
from ptychostream.errors import DataContractError
from ptychostream.geometry import split_coordinates
from ptychostream.ptychopinn.labels import cut_labels


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


def group_normalisation(store: Any, groups: Any) -> NDArray[np.float64]:
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


def member_coordinates(store: Any, members: NDArray[np.int64]) -> dict[str, NDArray[np.float64]]:
    """Return the coordinates of groups, as the specification's dictionary has them.

    Parameters
    ----------
    members : (B, C) int64
        Rows of the patterns.
    """
    parts = {}
    for prefix, positions in (("coords", store.positions), ("coords_start", store.positions_start)):
        offsets, relative = split_coordinates(positions, members)
        parts[f"{prefix}_offsets"] = offsets[:, None, :, None]
        parts[f"{prefix}_relative"] = np.moveaxis(relative, 1, -1)[:, None]
        parts[f"{prefix}_nn"] = np.moveaxis(positions[members], 1, -1)[:, None]
    return parts


def objects_of(store: Any) -> list[NDArray[np.complex64] | None]:
    """Read the object of every experiment.

    Returns
    -------
    list of (H, W) complex64 or None
        None where it is not known.
    """
    return [store.object_guess_of(number) for number in range(store.num_experiments)]


def true_patches(
    store: Any,
    members: NDArray[np.int64],
    objects: list[NDArray[np.complex64] | None],
) -> NDArray[np.complex64] | None:
    """Cut the true patches of groups.

    Parameters
    ----------
    members : (B, C) int64
        Rows of the patterns.
    objects : list of (H, W) complex64 or None
        From `objects_of`.

    Returns
    -------
    (B, N, N, C) complex64 or None
        None where the object of an experiment is not known.
    """
    if any(obj is None for obj in objects):
        return None
    experiment = store.experiment_id[members[:, 0]]
    patches = np.empty((len(members), store.N, store.N, members.shape[1]), np.complex64)
    for number, obj in enumerate(objects):
        here = experiment == number
        if here.any() and obj is not None:
            patches[here] = cut_labels(obj, store.positions[members[here]], store.N)
    return patches


def to_spec_dict(store: Any, groups: Any, rows: NDArray[np.int64] | None = None) -> dict[str, Any]:
    """Gather groups as the specification's dictionary.

    What a group's entries are does not depend on which others are asked for: blocks of rows, one
    after the other, are the whole.

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
    experiment = store.experiment_id[members[:, 0]]
    stored = store.diffraction(members.ravel()).reshape(number, size, store.N, store.N)
    bad = store.bad_pixels[experiment]
    if bad.any():
        stored[np.broadcast_to(bad[:, None], stored.shape)] = 0
    if store.measurement_domain == "counts":
        stored = np.sqrt(stored, dtype=np.float32)
    diffraction = np.ascontiguousarray(np.moveaxis(stored.astype(np.float32, copy=False), 1, -1))
    factor = group_normalisation(store, groups)[experiment].astype(np.float32)
    objects = objects_of(store)
    return {
        "diffraction": diffraction,
        "Y": true_patches(store, members, objects),
        **member_coordinates(store, members),
        "nn_indices": members,
        "objectGuess": objects[0] if len(objects) == 1 else None,
        "X_full": diffraction * factor[:, None, None, None],
        "experiment_id": experiment,
    }


def from_spec_dict(
    spec: dict[str, Any],
    probe: NDArray[np.complex64] | None = None,
    *,
    physics_scale: float = 1.0,
) -> TensorDict:
    """Turn the specification's dictionary into a batch.

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
        here = experiment == number
        energies = [
            np.square(np.asarray(part)[here], dtype=np.float64).sum()
            for part in (spec["X_full"], measured)
        ]
        factor[here] = np.sqrt(energies[0] / energies[1]) if energies[1] else 1.0
    return factor
