"""Leave a trained model where it is wanted."""

import os
import shutil
from pathlib import Path


def publish(archive: Path, target: Path) -> None:
    """Copy an archive; it appears under its name only when it is complete.

    Parameters
    ----------
    archive : Path
        What was trained, on whatever disk.
    target : Path
        The file to make.
    """
    partial = target.with_name(f".{target.name}.{os.getpid()}.partial")
    try:
        shutil.copyfile(archive, partial)
        partial.replace(target)
    finally:
        partial.unlink(missing_ok=True)
