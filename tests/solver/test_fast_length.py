"""Lengths whose Fourier transforms are fast."""

from scipy.fft import next_fast_len

from ptychostream.solver.fast_length import fast_length


def test_lengths_are_those_of_scipy():
    for least in [*range(1, 3000), 99_991, 1_000_003]:
        assert fast_length(least) == next_fast_len(least)
        assert fast_length(least, is_real=True) == next_fast_len(least, real=True)
