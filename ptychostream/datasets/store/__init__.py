"""The group store: patterns once, in Hilbert order; groups as rows of indices."""

from ptychostream.datasets.grouping.table import Groups
from ptychostream.datasets.store.append import append_patterns, finish_group_store
from ptychostream.datasets.store.build import build_group_store
from ptychostream.datasets.store.compact import compact_group_store
from ptychostream.datasets.store.group_store import GroupStore, open_group_store
from ptychostream.datasets.store.scans import read_scans

__all__ = [
    "GroupStore",
    "Groups",
    "append_patterns",
    "build_group_store",
    "compact_group_store",
    "finish_group_store",
    "open_group_store",
    "read_scans",
]
