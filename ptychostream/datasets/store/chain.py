"""Which appended segments make up a store, while small ones are packed into larger ones."""

import json
import re
import time
from collections.abc import Iterable
from pathlib import Path

from ptychostream.datasets.store.format import MANIFEST, SEGMENTS
from ptychostream.datasets.store.segment import Segment, open_segment
from ptychostream.datasets.store.storage import StoreFiles

#: First and last of the blocks that a segment holds.
Blocks = tuple[int, int]

#: File with the names of the segments, for storage that can't list folders.
CHAIN = f"{SEGMENTS}/chain.json"

#: Seconds that a packed segment stays, so that a process that was just started finds it.
GRACE_S = 600


def segment_name(first: int, last: int) -> str:
    """Name the folder of a segment.

    Examples
    --------
    >>> segment_name(3, 3), segment_name(1, 4)
    ('000003', '000001-000004')
    """
    return f"{first:06d}" if first == last else f"{first:06d}-{last:06d}"


def blocks_of(names: Iterable[str]) -> set[Blocks]:
    """Read the names of folders; others are left out."""
    found = (re.fullmatch(r"(\d{6})(?:-(\d{6}))?", name) for name in names)
    return {(int(m[1]), int(m[2] or m[1])) for m in found if m}


def choose_chain(present: set[Blocks]) -> list[Blocks]:
    """Choose the segments that hold all blocks from the first: the longest that begins with each.

    Examples
    --------
    >>> choose_chain({(1, 1), (2, 2), (1, 2), (3, 3), (5, 5)})
    [(1, 2), (3, 3)]
    """
    longest: dict[int, int] = {}
    for first, last in present:
        longest[first] = max(last, longest.get(first, 0))
    chain, at = [], 1
    while at in longest:
        chain.append((at, longest[at]))
        at = longest[at] + 1
    return chain


def open_chain(
    storage: StoreFiles, known: Iterable[Segment] = (), listing: dict[str, int] | None = None
) -> tuple[Segment, ...]:
    """Open the appended segments of a store; one that is still being written is left out.

    Parameters
    ----------
    known : iterable of Segment
        Segments that are open already.
    listing : dict, optional
        The store's files with their sizes, where they are known.
    """
    opened = {segment.blocks: segment for segment in known}
    chain = choose_chain(_complete(storage, opened.keys(), listing))
    segments = []
    for blocks in chain:
        folder = f"{SEGMENTS}/{segment_name(*blocks)}"
        segments.append(
            opened.get(blocks)
            or open_segment(
                storage.child(folder),
                blocks=blocks,
                present=None if listing is None else files_below(listing, folder),
            )
        )
    return tuple(segments)


def files_below(listing: dict[str, int], folder: str) -> dict[str, int]:
    """Select the files of a folder from a listing."""
    skip = len(folder) + 1
    return {n[skip:]: size for n, size in listing.items() if n.startswith(f"{folder}/")}


def _complete(
    storage: StoreFiles, opened: Iterable[Blocks], listing: dict[str, int] | None
) -> set[Blocks]:
    if listing is not None:
        names = {n.split("/")[1] for n in listing if n.startswith(f"{SEGMENTS}/")}
        return {b for b in blocks_of(names) if _manifest(b) in listing}
    if not storage.can_list:
        try:
            return blocks_of(json.loads(storage.read(CHAIN)))
        except FileNotFoundError:
            return set()
    known = set(opened)
    present = blocks_of(storage.folders(SEGMENTS))
    return {b for b in present if b in known or storage.has(_manifest(b))}


def _manifest(blocks: Blocks) -> str:
    return f"{SEGMENTS}/{segment_name(*blocks)}/{MANIFEST}"


def write_chain(storage: StoreFiles, chain: list[Blocks]) -> None:
    """Keep the chain's names, and remove segments that were packed a while ago."""
    storage.clear_left(CHAIN)
    storage.write(CHAIN, json.dumps([segment_name(*blocks) for blocks in chain]).encode())
    present = blocks_of(storage.folders(SEGMENTS))
    for blocks in present - set(chain):
        packed = [b for b in present if b != blocks and b[0] <= blocks[0] and blocks[1] <= b[1]]
        if packed and _is_old(storage, min(packed, key=lambda b: b[1] - b[0])):
            storage.remove(f"{SEGMENTS}/{segment_name(*blocks)}")


def _is_old(storage: StoreFiles, blocks: Blocks) -> bool:
    if storage.folder is None:
        # Its age is unknown here; readers find its patterns in the segment that holds them now.
        return True
    manifest = Path(storage.folder) / _manifest(blocks)
    return time.time() - manifest.stat().st_mtime > GRACE_S
