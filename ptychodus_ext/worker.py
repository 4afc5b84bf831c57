"""`python -m ptychodus_ext.worker`: the process that a `ChildRun` starts."""

import logging
import os
import sys

from ptychostream.children.serve import serve

if __name__ == "__main__":
    code = serve(*(int(word) for word in sys.argv[1:4]))
    logging.shutdown()
    sys.stdout.flush()
    sys.stderr.flush()
    # The parent waits for the end, and taking torch apart would take most of a second.
    os._exit(code)
