"""Repeat requests that fail for a temporary reason: the server is busy, or out of reach."""

import logging
import time
from collections.abc import Callable
from typing import Any

from ptychostream.errors import StorageError

logger = logging.getLogger(__name__)

#: Status of a response that is worth another try, and seconds before each.
_PASSING = frozenset({408, 425, 429, 500, 502, 503, 504})
_WAITS_S = (0.2, 1.0, 5.0)


def retried(request: Callable[[], Any], label: str) -> Any:
    """Make a request, and repeat it if it failed for a temporary reason."""
    for wait in _WAITS_S:
        try:
            return request()
        except Exception as error:
            if not _is_passing(error):
                raise
            logger.warning("'%s': %s; trying again in %g s", label, error, wait)
            time.sleep(wait)
    return request()


def _is_passing(error: Exception) -> bool:
    """Return whether a request may succeed a little later: the server is busy, or out of reach."""
    # fsspec reports every failed request for a web file's size as a missing file.
    status = getattr(error, "status", getattr(error.__cause__, "status", None))
    if status is not None:
        return status in _PASSING
    if isinstance(error, FileNotFoundError | PermissionError | StorageError):
        return False
    # aiohttp's errors are known by their module: it need not be installed.
    return isinstance(error, ConnectionError | TimeoutError) or type(error).__module__.startswith(
        "aiohttp"
    )
