"""The specification's grouped dictionary: numpy, channels last; and the way back to a batch."""

from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from tensordict import TensorDict

from ptychostream.datasets.batch import check_batch
from ptychostream.datasets.labels import cut_labels
from ptychostream.errors import DataContractError
from ptychostream.geometry import split_coordinates


def normalisation_factor(diffraction: NDArray[Any]) -> float:
    """Factor that brings the mean energy of patterns to (N/2)².

    Parameters
    ----------
    diffraction : (B, N, N, C)
        Amplitudes, of any real type.

    Returns
    -------
    float
        √((N/2)² / mean Σ amplitude²); the sum is in double precision.
    """
    edge = diffraction.shape[1]
    energy = np.sum(np.square(diffraction, dtype=np.float64), axis=(1, 2)).mean()
    if energy <= 0:
        raise DataContractError("all patterns are zero: they can't be normalised")
    return float(np.sqrt((edge / 2) ** 2 / energy))


def to_spec_dict(store: Any, groups: Any, rows: NDArray[np.int64] | None = None) -> dict[str, Any]:
    """Gather groups as the specification's dictionary.

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
        `diffraction`, `X_full` (B, N, N, C) float32 amplitude, measured and normalised to a mean
        energy of (N/2)²; `Y` (B, N, N, C) complex64 true patches, or None without an object
        guess; `coords_offsets`, `coords_start_offsets` (B, 1, 2, 1), `coords_relative`,
        `coords_nn`, `coords_start_relative`, `coords_start_nn` (B, 1, 2, C) float64 px;
        `nn_indices` (B, C) int64; `objectGuess`; `experiment_id` (B,).
    """
    members = groups.nn_indices if rows is None else groups.nn_indices[np.asarray(rows)]
    number, size = members.shape
    stored = store.diffraction(members.ravel()).reshape(number, size, store.N, store.N)
    if store.measurement_domain == "counts":
        stored = np.sqrt(stored, dtype=np.float32)
    diffraction = np.ascontiguousarray(np.moveaxis(stored.astype(np.float32, copy=False), 1, -1))
    spec: dict[str, Any] = {
        "diffraction": diffraction,
        "X_full": (diffraction * normalisation_factor(diffraction)).astype(np.float32),
        "nn_indices": members,
        "experiment_id": store.experiment_id[members[:, 0]],
    }
    for prefix, positions in (("coords", store.positions), ("coords_start", store.positions_start)):
        offsets, relative = split_coordinates(positions, members)
        spec[f"{prefix}_offsets"] = offsets[:, None, :, None]
        spec[f"{prefix}_relative"] = np.moveaxis(relative, 1, -1)[:, None]
        spec[f"{prefix}_nn"] = np.moveaxis(positions[members], 1, -1)[:, None]
    single = store.num_experiments == 1
    spec["objectGuess"] = store.object_guess if single else None
    spec["Y"] = None
    if spec["objectGuess"] is not None:
        labels = cut_labels(spec["objectGuess"], store.positions[members], store.N)
        spec["Y"] = np.ascontiguousarray(np.moveaxis(labels, 1, -1))
    return spec


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
        At least `diffraction`, `coords_offsets`, `coords_relative` and `nn_indices`.
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
    factor = normalisation_factor(np.asarray(spec["diffraction"]))
    experiment = np.asarray(spec.get("experiment_id", np.zeros(number)), dtype=np.int64)
    entries = {
        "diffraction": np.ascontiguousarray(amplitude),
        "coords_offsets": np.moveaxis(spec["coords_offsets"], -1, 1).astype(np.float32),
        "coords_relative": np.moveaxis(spec["coords_relative"], -1, 1).astype(np.float32),
        "nn_indices": members,
        "experiment_id": experiment,
        "rms_scale": np.full((number, 1, 1, 1), factor, np.float32),
        "physics_scale": np.full((number, 1, 1, 1), physics_scale, np.float32),
    }
    batch = TensorDict(
        {name: torch.from_numpy(np.ascontiguousarray(value)) for name, value in entries.items()},
        batch_size=[number],
    )
    check_batch(batch)
    return batch
