"""Where ptychodus looks for plugins, and finds ptychostream. It must never stop ptychodus."""

import logging
from typing import Any

logger = logging.getLogger("ptychostream.ptychodus")


def register_plugins(registry: Any) -> None:
    """Add the library PtychoStream and its file readers to ptychodus.

    Parameters
    ----------
    registry : PluginRegistry
        Of ptychodus.
    """
    # ptychodus ends at most exceptions of a plugin, so none may leave.
    try:
        from ptychodus_ext.hook import activate

        activate(registry)
    except Exception as error:
        logger.error(
            "PtychoStream is NOT available in this session: %s. ptychodus goes on without it. "
            "Run `ptychostream doctor`; if ptychostream was removed, delete '%s'",
            error,
            __file__,
            exc_info=logger.isEnabledFor(logging.DEBUG),
        )
