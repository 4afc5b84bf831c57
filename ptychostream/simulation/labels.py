"""Labels: the true object patches at a scan's positions, cut from a known object."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from ptychostream.errors import DataContractError
from ptychostream.patches import extract_patches
from ptychostream.scan import Scan
from ptychostream.simulation.files import read_object, read_positions, read_probe


@dataclass(frozen=True, eq=False, kw_only=True)
class LabelledPatches:
    """An object and its patches at the positions of a scan, cut when they are read.

    Attributes
    ----------
    object : (H, W) complex64
        Transmission.
    probe : (P, N, N) complex64
        Illumination.
    positions : (M, 2) float64
        True positions (x, y), in pixels of the object.
    """

    object: NDArray[np.complex64]
    probe: NDArray[np.complex64]
    positions: NDArray[np.float64]

    @property
    def shape(self) -> tuple[int, int, int]:
        """M, N, N."""
        edge = self.probe.shape[-1]
        return len(self.positions), edge, edge

    def read(self, rows: NDArray[np.int64]) -> NDArray[np.complex64]:
        """Cut the patches of these rows.

        Parameters
        ----------
        rows : (B,) int64
            Which positions.

        Returns
        -------
        (B, N, N) complex64
            Transmission under the probe, bilinear between pixels, as in PtychoPINN's `Y`.
        """
        centres = torch.as_tensor(self.positions[np.asarray(rows)])
        patches = extract_patches(torch.as_tensor(self.object), centres, self.probe.shape[-1])
        return np.asarray(patches.numpy())

    def blocks(self, length: int) -> Iterator[NDArray[np.complex64]]:
        """Iterate over all patches in acquisition order.

        Yields
        ------
        (B, N, N) complex64
            A block; the last may be shorter.
        """
        for start in range(0, len(self.positions), length):
            yield self.read(np.arange(start, min(start + length, len(self.positions))))


def labels_from_experiment(experiment: Scan | str | Path) -> LabelledPatches:
    """Cut labelled patches from a simulated scan, or from the object of a reconstruction.

    Patterns to go with them are in the scan, or simulated anew with the file as object, probe
    and scan pattern of `simulate_scan`.

    Parameters
    ----------
    experiment : Scan, str or Path
        A scan with an object guess; or a ptychodus product, training data or NPZ that holds
        object, probe and positions.

    Returns
    -------
    LabelledPatches
        One patch at each true position.

    Raises
    ------
    DataContractError
        If the object is missing.

    Examples
    --------
    >>> from ptychostream.simulation import simulate_scan
    >>> labels_from_experiment(simulate_scan(num_positions=9, N=16)).read([0, 1]).shape
    (2, 16, 16)
    """
    if isinstance(experiment, Scan):
        if experiment.object_guess is None:
            raise DataContractError(
                f"{experiment.name} has no object guess, so there are no labels; reconstruct it "
                "and take the labels from the product"
            )
        return LabelledPatches(
            object=experiment.object_guess,
            probe=experiment.probe,
            positions=experiment.positions,
        )
    return LabelledPatches(
        object=read_object(experiment, {}),
        probe=read_probe(experiment).astype(np.complex64),
        positions=read_positions(experiment),
    )
