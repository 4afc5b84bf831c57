"""Go on within an epoch that was interrupted: only in the same order."""

from collections.abc import Mapping
from typing import Any

from ptychostream.datasets.batches.sampler import Window
from ptychostream.errors import ConfigurationError


def check_state(state: Mapping[str, Any]) -> None:
    """Refuse what is no state of a loader."""
    numbers = [state.get(name) for name in ("epoch", "served")]
    if any(type(number) is not int or number < 0 for number in numbers):
        raise ConfigurationError(
            f"epoch={numbers[0]!r} and served={numbers[1]!r} are no state of a loader; give "
            "what state_dict returned"
        )


def check_same_order(began: Mapping[str, Any], now: Mapping[str, Any]) -> None:
    """Refuse to go on where another order would follow than the one that an epoch began with."""
    # States of earlier versions say less.
    changed = [name for name in now if name in began and began[name] != now[name]]
    if changed == ["window_chunks"]:
        raise ConfigurationError(
            f"the epoch began with windows of {began['window_chunks']} chunks, but "
            f"memory_budget now gives {now['window_chunks']}, and with it another order: go on "
            "with the memory_budget of before, or begin the epoch anew"
        )
    if changed:
        listed = ", ".join(
            f"another {name} ({began[name]!r:.18}, now {now[name]!r:.18})" for name in changed
        )
        raise ConfigurationError(
            f"the epoch began with {listed}, and so in another order: go on with what it began "
            "with, or begin the epoch anew"
        )


def drop_groups(windows: list[Window], number: int) -> list[Window]:
    """Remove the first `number` groups, and the windows that then serve none."""
    kept = []
    for window in windows:
        drop = min(number, len(window.groups))
        number -= drop
        if drop < len(window.groups):
            kept.append(Window(window.chunks, window.groups[drop:]))
    return kept
