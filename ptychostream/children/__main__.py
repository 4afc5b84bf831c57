"""`python -m ptychostream.children`: the process that a `ChildRun` starts."""

import logging
import os
import sys

from ptychostream.children.serve import serve

if __name__ == "__main__":
    task, *numbers = sys.argv[1:]
    code = serve(task, *map(int, numbers))
    logging.shutdown()
    sys.stdout.flush()
    sys.stderr.flush()
    # The parent waits for the end, and taking torch apart would take most of a second. A process
    # that failed beside others must not wait for them either.
    os._exit(code)
