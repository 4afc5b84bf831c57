"""Seeds: what may be one, and how one seed makes many."""

import numpy as np

from ptychostream.errors import ConfigurationError


def check_seed(seed: int) -> None:
    """Refuse what NumPy takes for no seed.

    Raises
    ------
    ConfigurationError
        If it is negative or not a whole number.
    """
    if not isinstance(seed, int | np.integer) or isinstance(seed, bool) or seed < 0:
        raise ConfigurationError(f"seed={seed!r} must be a whole number, zero or more")


def experiment_seed(seed: int, index: int) -> int:
    """Find the seed of one experiment of many.

    Examples
    --------
    >>> experiment_seed(0, 1) == experiment_seed(0, 1) != experiment_seed(1, 0)
    True
    """
    return int(np.random.SeedSequence((seed, index)).generate_state(1)[0])
