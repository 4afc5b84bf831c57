"""`python -m ptychodus_ext.worker`: the process that a `ChildRun` starts."""

import sys

from ptychodus_ext.child.serve import serve

if __name__ == "__main__":
    sys.exit(serve(*(int(word) for word in sys.argv[1:4])))
