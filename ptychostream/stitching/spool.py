"""Placed patches set aside in a scratch file until the phases between them are known."""

import tempfile
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from ptychostream.stitching.canvas import check_free_space
from ptychostream.stitching.packed_blocks import pack, unpack
from ptychostream.stitching.placed_patches import PlacedPatches


class PatchSpool:
    """A scratch file of placed patches: written once, read in order; gone when closed.

    Patches are rounded to ten bits (`packed_blocks`): the file takes no more than patterns of
    16 bits do.

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
        """Give the file's space back."""
        self._file.close()

    def reserve(self, size: int) -> None:
        """Refuse what the disk will not hold, before it is computed.

        Raises
        ------
        ConfigurationError
            If the disk is too full.
        """
        check_free_space(self.folder, size, "the patches until they are stitched")

    def append(self, placed: PlacedPatches, nodes: NDArray[np.int64]) -> None:
        """Set patches aside.

        Parameters
        ----------
        nodes : (B,) int64
            Number of each of its groups, under which its phase will be known.
        """
        self._file.seek(self.size)
        blocks = placed.blocks.cpu().numpy()
        # Whole: what stayed in memory of each would keep the memory between it from being used.
        for part in (
            np.array(blocks.shape),
            *pack(blocks),
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
            shape, scale, data, corners, groups, is_even = (
                np.load(self._file, allow_pickle=False) for _ in range(6)
            )
            at = self._file.tell()
            blocks = torch.from_numpy(unpack(scale, data, tuple(shape.tolist())))
            yield PlacedPatches(blocks, corners, groups, is_even)
