"""Choice of the algorithm: ours as the default, and an error instead of an unknown one."""

import functools
import logging
from collections.abc import Callable
from typing import Any

from ptychostream.errors import ConfigurationError

logger = logging.getLogger("ptychostream.ptychodus")

#: Algorithm that ptychodus chooses if its default is not installed: it does nothing.
_NONE = "none_none"


def guard_choice(parameter: Any, api: Any, default: str) -> None:
    """Choose the default algorithm if none is set, and refuse runs while an unknown one is set.

    With an unknown name, ptychodus itself keeps the former algorithm, with a message at the
    level DEBUG.
    """
    if parameter.get_value() == _NONE:
        parameter.set_value(default)
    unknown: str | None = None
    is_setting = False
    original = parameter.set_value

    def is_known(name: str) -> bool:
        return name.strip().casefold() in parameter.available_reconstructors()

    def set_value(value: str, *, notify: bool = True) -> None:
        nonlocal unknown, is_setting
        if is_setting:
            # ptychodus sets the former name again.
            original(value, notify=notify)
            return
        unknown = None if is_known(value) else value
        if unknown is not None:
            logger.error("%s", _message(unknown, parameter))
        is_setting = True
        try:
            original(value, notify=notify)
        finally:
            is_setting = False

    def refuse_unknown(run: Callable[..., Any]) -> Callable[..., Any]:
        @functools.wraps(run)
        def checked(*args: Any, **kwargs: Any) -> Any:
            name = kwargs.get("algorithm") or unknown
            if name is not None and not is_known(name):
                raise ConfigurationError(_message(name, parameter))
            return run(*args, **kwargs)

        return checked

    parameter.set_value = set_value
    for action in ("reconstruct", "train", "export_training_data"):
        setattr(api, action, refuse_unknown(getattr(api, action)))


def _message(name: str, parameter: Any) -> str:
    known = ", ".join(parameter.available_reconstructors())
    return (
        f"the algorithm '{name}' of [Processing] Algorithm is not available; choose one of "
        f"{known}, or install the package that '{name}' belongs to"
    )
