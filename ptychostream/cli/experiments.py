"""Which experiments of a store a command works on."""

import re
from collections.abc import Sequence
from fnmatch import fnmatchcase

from ptychostream.errors import ConfigurationError, DataContractError

#: A number, or a range.
_RANGE = re.compile(r"\d+|\d*:\d*")

#: Names that a message lists, at most.
_SHOWN = 5


def chosen_experiments(text: str | None, names: Sequence[str]) -> list[int] | None:
    """Return the experiments that `all`, `3`, `0,4`, `2:5` or `tuesday*` name; None for none.

    Experiments are counted from 0; the end of a range is not in it. `names` has one for each.
    """
    if text is None:
        return None
    number = len(names)
    if text == "all":
        return list(range(number))
    chosen: list[int] = []
    for part in text.split(","):
        if _RANGE.fullmatch(part):
            first, colon, last = part.partition(":")
            start = int(first or 0)
            chosen += range(start, (int(last) if last else number) if colon else start + 1)
        else:
            chosen += _named(part, names)
    wrong = [each for each in chosen if not 0 <= each < number]
    if wrong or not chosen:
        raise DataContractError(
            f"the store has no experiment {wrong[0] if wrong else text}; it holds {number}, "
            "from 0 on"
        )
    return list(dict.fromkeys(chosen))


def _named(pattern: str, names: Sequence[str]) -> list[int]:
    found = [number for number, name in enumerate(names) if fnmatchcase(name, pattern)]
    if not found:
        known = ", ".join(repr(name) for name in names[:_SHOWN] if name)
        more = ", …" if len(names) > _SHOWN else ""
        raise ConfigurationError(
            f"--experiment {pattern!r} is no number, no range such as 2:5, and no experiment has "
            f"such a name; {f'names are {known}{more}' if known else 'the experiments have none'}"
        )
    return found
