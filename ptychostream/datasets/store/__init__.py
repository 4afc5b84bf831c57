"""The group store: patterns once, in Hilbert order; groups as rows of indices."""

from ptychostream.datasets.store.build import build_group_store
from ptychostream.datasets.store.group_store import GroupStore, open_group_store
from ptychostream.datasets.store.groups import Groups

__all__ = ["GroupStore", "Groups", "build_group_store", "open_group_store"]
