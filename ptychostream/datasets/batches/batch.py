"""What a batch holds: the contract between loader and model, as one table."""

from typing import NamedTuple

import torch
from tensordict import TensorDict

from ptychostream.errors import DataContractError


class Entry(NamedTuple):
    """Axes, kind and meaning of one batch entry.

    Attributes
    ----------
    axes : str
        One letter or length per axis.
    dtype : torch.dtype
        Data type.
    meaning : str
        Meaning, with its unit.
    """

    axes: str
    dtype: torch.dtype
    meaning: str


ENTRIES = {
    "diffraction": Entry("B C N N", torch.float32, "measured amplitude, zero frequency at N/2"),
    "coords_offsets": Entry("B 1 1 2", torch.float32, "mean position (x, y) of the group, px"),
    "coords_relative": Entry("B C 1 2", torch.float32, "mean minus member (x, y), px"),
    "nn_indices": Entry("B C", torch.int64, "rows of the patterns in the store"),
    "experiment_id": Entry("B", torch.int64, "experiment of the group, which decides the probe"),
    "rms_scale": Entry("B 1 1 1", torch.float32, "amplitude → network input"),
    "physics_scale": Entry("B 1 1 1", torch.float32, "amplitude → √photons"),
}


def check_batch(batch: TensorDict) -> dict[str, int]:
    """Check a batch against `ENTRIES`.

    Parameters
    ----------
    batch : TensorDict
        A batch of the loader.

    Returns
    -------
    dict of str to int
        Length of each lettered axis: B, C and N.

    Raises
    ------
    DataContractError
        If an entry is missing, or its dtype or an axis length does not fit.
    """
    sizes: dict[str, int] = {}
    for name, entry in ENTRIES.items():
        if name not in batch:
            raise DataContractError(f"batch lacks '{name}' ({entry.meaning})")
        value, axes = batch[name], entry.axes.split()
        fits = value.ndim == len(axes) and all(
            length == (int(axis) if axis.isdigit() else sizes.setdefault(axis, length))
            for axis, length in zip(axes, value.shape, strict=True)
        )
        if not fits or value.dtype != entry.dtype:
            raise DataContractError(
                f"'{name}' is {tuple(value.shape)} {value.dtype}, expected "
                f"({', '.join(axes)}) {entry.dtype} with {sizes}"
            )
    return sizes
