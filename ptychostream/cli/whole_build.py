"""Build a store for a command that does not go on with an unfinished one."""

from pathlib import Path
from typing import TYPE_CHECKING, Any

from ptychostream.errors import StorageError

if TYPE_CHECKING:
    from ptychostream.datasets.store import GroupStore


def build_whole(sources: Any, out: Path, *, then: str, **options: Any) -> "GroupStore":
    """Build a store; where it fails for want of room, or is interrupted, nothing of it is kept.

    `then` is what the user can do after making room.
    """
    from ptychostream.datasets.store import build_group_store
    from ptychostream.datasets.store.staging import abandon_build

    try:
        return build_group_store(sources, out, **options)
    except KeyboardInterrupt:
        abandon_build(out)
        raise
    except StorageError as error:
        abandon_build(out)
        raise StorageError(
            f"could not write '{out}': {error.__cause__ or error}; free space or make it writable, "
            f"then {then}"
        ) from error
