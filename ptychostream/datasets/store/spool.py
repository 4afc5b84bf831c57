"""Uncompressed scratch copies of patterns that can only be read from first to last."""

from pathlib import Path

from ptychostream.datasets.sources.file_patterns import FilePatterns
from ptychostream.files import whole_file
from ptychostream.scan import ArrayPatterns, PatternSource


def uncompressed_copy(
    source: PatternSource, scratch: Path, *, shared: bool = False
) -> PatternSource:
    """Make patterns readable in any order.

    Parameters
    ----------
    scratch : Path
        File for a copy; used only where the source streams, and kept if complete, so that
        a resumed build need not copy again.
    shared : bool
        Whether other processes read them, for whom an array in memory is copied, too.
    """
    if source.random_access and not (shared and isinstance(source, ArrayPatterns)):
        return source
    if not scratch.exists():
        with whole_file(scratch) as partial, partial.open("wb") as stream:
            for block in source.blocks(256):
                stream.write(block.tobytes())
    return FilePatterns(scratch, source.shape, source.dtype)
