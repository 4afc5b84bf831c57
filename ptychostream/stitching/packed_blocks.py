"""Blocks of complex pixels in few bytes: ten bits for a number, and nothing for a dark pixel."""

import numpy as np
from numpy.typing import NDArray

#: The largest number that ten bits and a sign hold: an error of a thousandth of a block's
#: brightest pixel at most, which averages out where patches overlap.
_LARGEST = 511


def pack(blocks: NDArray[np.complex64]) -> tuple[NDArray[np.float32], NDArray[np.uint8]]:
    """Round blocks (K, ...) to ten bits, in units of each block's largest number.

    Returns
    -------
    scale : (K,) float32
        The unit of each block.
    data : (D,) uint8
        Which pixels are not zero, the low eight bits of their numbers, and the high two.
    """
    per_block = 2 * int(np.prod(blocks.shape[1:]))
    numbers = np.ascontiguousarray(blocks).view(np.float32).reshape(len(blocks), per_block)
    largest = np.maximum(numbers.max(axis=1, initial=0), -numbers.min(axis=1, initial=0))
    scale = largest / np.float32(_LARGEST)
    rounded = numbers * (1 / np.maximum(scale, np.finfo(np.float32).tiny))[:, None]
    # The real and the imaginary part of a pixel, of 16 bits each, are looked at as one number.
    pairs = np.rint(rounded, out=rounded).astype(np.int16).view(np.int32).ravel()
    is_lit = pairs != 0
    lit = (pairs[is_lit].view(np.int16) + np.int16(_LARGEST)).view(np.uint16)
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
    blocks = np.zeros(pixels, np.complex64)
    blocks[is_lit] = lit.view(np.complex64)
    blocks = blocks.reshape(shape)
    blocks *= scale.reshape(-1, *(1,) * (len(shape) - 1))
    return blocks
