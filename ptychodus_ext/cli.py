"""`ptychodus-stream`: run ptychodus with the library where ptychodus does not find it itself."""

import logging
import sys

from ptychostream.errors import PtychoStreamError

logger = logging.getLogger("ptychostream.ptychodus")


def main() -> int:
    """Run ptychodus, with its own options."""
    from ptychodus_ext.compatibility import installed_version

    try:
        # Checked before the import, so that the message says what to install.
        installed_version()
        import ptychodus.model.core  # noqa: F401

        from ptychodus_ext.hook import activate

        activate()
    except PtychoStreamError as error:
        logger.error("error: %s", error)
        return 1
    from ptychodus.__main__ import main as run_ptychodus

    return int(run_ptychodus())


if __name__ == "__main__":
    sys.exit(main())
