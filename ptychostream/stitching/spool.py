"""Placed patches, kept in a scratch file until the phases between them are known."""

import tempfile
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from ptychostream.stitching.canvas import check_free_space
from ptychostream.stitching.placed_patches import PlacedPatches


class PatchSpool:
    """A scratch file of placed patches: written once, read in order; gone when closed.

    Parameters
    ----------
    folder : Path, optional
        Where the file lies; None is the system's folder for temporary files.
    """

    def __init__(self, folder: Path | None = None) -> None:
        self.folder = Path(tempfile.gettempdir()) if folder is None else folder
        self._file = tempfile.TemporaryFile(  # noqa: SIM115
            prefix=".ptychostream-patches-", dir=self.folder
        )
        self._parts = 0
        self.size = 0

    def close(self) -> None:
        """Delete the file."""
        self._file.close()

    def reserve(self, size: int) -> None:
        """Refuse patches for which the disk has no room, before they are computed.

        Raises
        ------
        ConfigurationError
            If the disk is too full.
        """
        check_free_space(self.folder, size, "the patches until they are stitched")

    def append(self, placed: PlacedPatches, nodes: NDArray[np.int64]) -> None:
        """Write patches to the file.

        Parameters
        ----------
        nodes : (B,) int64
            Number of each of its groups, under which its phase will be known.
        """
        self._file.seek(self.size)
        # Copied as a whole, since small pieces that stay would fragment the memory.
        for part in (
            placed.blocks.cpu().contiguous().numpy(),
            placed.corners,
            nodes[placed.groups],
            placed.is_even,
        ):
            np.save(self._file, part, allow_pickle=False)
        self._parts += 1
        self.size = self._file.tell()

    def __iter__(self) -> Iterator[PlacedPatches]:
        at = 0
        for _ in range(self._parts):
            self._file.seek(at)
            blocks, corners, groups, is_even = (
                np.load(self._file, allow_pickle=False) for _ in range(4)
            )
            at = self._file.tell()
            yield PlacedPatches(torch.from_numpy(blocks), corners, groups, is_even)
