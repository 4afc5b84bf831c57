"""Placed patches set aside in a scratch file until the phases between them are known."""

import tempfile
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from ptychostream.scratch import check_free_space
from ptychostream.stitching.placed_patches import PlacedPatches


class PatchSpool:
    """A scratch file of placed patches: written once, read in order; gone when closed.

    Patches are rounded to ten bits (`pack`): the file takes no more than patterns of
    16 bits do.

    `folder`: where the file lies; None is the system's folder for temporary files.
    """

    def __init__(self, folder: Path | None = None) -> None:
        self.folder = Path(tempfile.gettempdir()) if folder is None else folder
        self._file = tempfile.TemporaryFile(  # noqa: SIM115
            prefix=".ptychostream-patches-", dir=self.folder
        )
        self._parts = 0
        self.size = 0

    def close(self) -> None:
        """Close the file, which deletes it."""
        self._file.close()

    def reserve(self, size: int) -> None:
        """Check that the disk has room, before patches are computed."""
        check_free_space(self.folder, size, "the patches until they are stitched")

    def append(self, placed: PlacedPatches, nodes: NDArray[np.int64]) -> None:
        """Set patches aside.

        `nodes` (B,): number of each of its groups, under which its phase will be known.
        """
        self._file.seek(self.size)
        blocks = placed.blocks.cpu().numpy()
        # All parts are written: small arrays left in memory would fragment it.
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


#: The largest number that ten bits and a sign hold, and the least: pixels with less than
#: (10 / 511)², a 2,600th, of the largest one are left out, as most of a patch is nearly dark.
_LARGEST, _LEAST = 511, 10


def pack(blocks: NDArray[np.complex64]) -> tuple[NDArray[np.float32], NDArray[np.uint8]]:
    """Round blocks (K, ...) to ten bits, in units of each block's largest number.

    It is square roots that are rounded: patches are weighted by the light on them, and are divided
    by it in the end, so that what is dim needs the finer steps.

    Returns `scale` (K,): the unit of each block.
    Returns `data` (D,): which pixels are not zero, the low eight bits of their numbers, and the
        high two.
    """
    per_block = 2 * int(np.prod(blocks.shape[1:]))
    numbers = np.ascontiguousarray(blocks).view(np.float32).reshape(len(blocks), per_block)
    largest = np.maximum(numbers.max(axis=1, initial=0), -numbers.min(axis=1, initial=0))
    scale = largest / np.float32(_LARGEST**2)
    # A block without light, whose scale is 0, stays 0.
    rounded = numbers * (1 / np.maximum(scale, np.finfo(np.float32).tiny))[:, None]
    signs = rounded.view(np.uint32) & np.uint32(0x80000000)
    np.sqrt(np.abs(rounded, out=rounded), out=rounded)
    rounded.view(np.uint32)[...] |= signs
    roots = np.rint(rounded, out=rounded).astype(np.int16).ravel()
    # The real and the imaginary part of a pixel are looked at as one number of twice the bits.
    is_lit = (np.abs(roots) >= _LEAST).view(np.uint16) != 0
    lit = (roots.view(np.int32)[is_lit].view(np.int16) + np.int16(_LARGEST)).view(np.uint16)
    high = np.zeros(-(-len(lit) // 4) * 4, np.uint8)
    high[: len(lit)] = lit >> 8
    fours = high[::4] | high[1::4] << 2 | high[2::4] << 4 | high[3::4] << 6
    return scale, np.concatenate([np.packbits(is_lit), lit.astype(np.uint8), fours])


def unpack(
    scale: NDArray[np.float32], data: NDArray[np.uint8], shape: tuple[int, ...]
) -> NDArray[np.complex64]:
    """Return the blocks, of a shape (K, ...), that `pack` rounded."""
    pixels = int(np.prod(shape))
    first = -(-pixels // 8)
    is_lit = np.unpackbits(data[:first], count=pixels).view(bool)
    count = 2 * int(np.count_nonzero(is_lit))
    low, high = data[first : first + count], data[first + count :]
    numbers = np.empty(4 * len(high), np.uint8)
    for place in range(4):
        numbers[place::4] = high >> 2 * place & 3
    lit = (low + (numbers[:count].astype(np.int16) << 8) - np.int16(_LARGEST)).astype(np.float32)
    lit *= np.abs(lit)
    blocks = np.zeros(pixels, np.complex64)
    blocks[is_lit] = lit.view(np.complex64)
    blocks = blocks.reshape(shape)
    blocks *= scale.reshape(-1, *(1,) * (len(shape) - 1))
    return blocks
