"""Lengths whose Fourier transforms are fast."""

#: Factors for which transforms of complex and of real values have steps of their own.
_OF_COMPLEX, _OF_REAL = (2, 3, 5, 7, 11), (2, 3, 5)


def fast_length(least: int, *, is_real: bool = False) -> int:
    """Return the shortest length from `least` on that is a product of small factors.

    SciPy's `next_fast_len` gives the same, and its import takes longer than a short run's passes.
    """
    length = max(least, 1)
    while not _is_product(length, _OF_REAL if is_real else _OF_COMPLEX):
        length += 1
    return length


def _is_product(number: int, factors: tuple[int, ...]) -> bool:
    for factor in factors:
        while number % factor == 0:
            number //= factor
    return number == 1
