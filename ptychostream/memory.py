"""Amounts of memory, as options state them."""

import re

from ptychostream.errors import ConfigurationError

_UNITS = {
    **{unit: 1000**power for power, unit in enumerate(("", "k", "m", "g", "t"))},
    **{f"{unit}i": 1024**power for power, unit in enumerate("kmgt", start=1)},
}


def parse_bytes(amount: str | int) -> int:
    """Read an amount of memory: bytes, or a number with a unit.

    Examples
    --------
    >>> parse_bytes("1 GiB")
    1073741824
    """
    if isinstance(amount, int):
        size = amount
    else:
        match = re.fullmatch(r"\s*([\d.]+)\s*([kmgt]?i?)b?\s*", amount.lower())
        try:
            size = int(float(match[1]) * _UNITS[match[2]]) if match else 0
        except (ValueError, KeyError, OverflowError):
            size = 0
    if size <= 0:
        raise ConfigurationError(f"{amount!r} is not an amount of memory; write, say, '512 MiB'")
    return size
