"""Trained models and results on disk.

Names are imported when they are first used: recognising an archive needs no PyTorch.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from ptychostream.persistence.archive import load_bundle, save_bundle
    from ptychostream.persistence.bundle import ModelBundle

__all__ = ["ModelBundle", "load_bundle", "save_bundle"]

_HOME = {"ModelBundle": "bundle", "load_bundle": "archive", "save_bundle": "archive"}


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module 'ptychostream.persistence' has no attribute {name!r}")
    return getattr(import_module(f"ptychostream.persistence.{_HOME[name]}"), name)
