"""Amounts of memory, as options state them."""

import re

from ptychostream.errors import ConfigurationError

_UNITS = {
    **{unit: 1000**power for power, unit in enumerate(("", "k", "m", "g", "t"))},
    **{f"{unit}i": 1024**power for power, unit in enumerate("kmgt", start=1)},
}


def parse_bytes(amount: str | int, *, name: str | None = None) -> int:
    """Read an amount of memory.

    `amount`: bytes, or a number with a unit.
    `name`: the option that it belongs to, for the message.

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
        label = f"{name}={amount!r}" if name else repr(amount)
        raise ConfigurationError(f"{label} is not an amount of memory; write, say, '512 MiB'")
    return size
