"""Patches set aside in a scratch file until they can be stitched."""

import tempfile
from collections.abc import Iterator
from types import TracebackType

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor


class PatchSpool:
    """A scratch file of patches: written once, read once, in order; gone when closed.

    Parameters
    ----------
    patch_size : int
        Edge N.
    """

    def __init__(self, patch_size: int) -> None:
        self._edge = patch_size
        self._file = tempfile.TemporaryFile(prefix="ptychostream-patches-")  # noqa: SIM115
        self._members: list[NDArray[np.int64]] = []

    def __enter__(self) -> "PatchSpool":
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._file.close()

    def append(self, patches: Tensor, members: NDArray[np.int64]) -> None:
        """Set a batch aside.

        Parameters
        ----------
        patches : (B, C, N, N) complex64
            Object patches.
        members : (B, C) int64
            The patterns that they belong to.
        """
        self._file.write(patches.cpu().contiguous().numpy().tobytes())
        self._members.append(members)

    def __iter__(self) -> Iterator[tuple[Tensor, NDArray[np.int64]]]:
        self._file.seek(0)
        for members in self._members:
            shape = (*members.shape, self._edge, self._edge)
            data = bytearray(self._file.read(int(np.prod(shape)) * 8))
            yield torch.frombuffer(data, dtype=torch.complex64).reshape(shape), members
