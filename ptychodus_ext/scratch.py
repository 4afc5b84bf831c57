"""Scratch folders that are removed when the application ends, also when it is killed."""

import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

_PREFIX = "ptychostream-"

#: Waits until its standard input ends, which is when the process that started it is gone.
_REMOVE_AFTERWARDS = 'trap "" TERM INT HUP; cat > /dev/null; rm -rf -- "$1"'


class ScratchFolder:
    """A new folder in `TMPDIR`.

    A batch system's time limit ends processes by signals that Python can't answer. So a shell
    in a session of its own waits for the end of this process, and removes the folder.
    """

    def __init__(self) -> None:
        self.path = Path(tempfile.mkdtemp(prefix=_PREFIX))
        self._remover: subprocess.Popen[bytes] | None = None
        # Without a shell the folder is removed in the usual ways of ending only.
        with suppress(OSError):
            self._remover = subprocess.Popen(
                ["/bin/sh", "-c", _REMOVE_AFTERWARDS, "sh", str(self.path)],
                stdin=subprocess.PIPE,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
                start_new_session=True,
            )

    def remove(self) -> None:
        """Remove the folder."""
        shutil.rmtree(self.path, ignore_errors=True)
        if self._remover is not None:
            assert self._remover.stdin is not None
            self._remover.stdin.close()
            self._remover.wait()


def is_scratch(path: Path) -> bool:
    """Return whether a path lies in a scratch folder, and so will be gone."""
    root = Path(tempfile.gettempdir())
    return any(p.parent == root and p.name.startswith(_PREFIX) for p in path.parents)


@contextmanager
def scratch_folder() -> Iterator[Path]:
    """Yield a scratch folder, which is removed when the context ends."""
    folder = ScratchFolder()
    try:
        yield folder.path
    finally:
        folder.remove()
