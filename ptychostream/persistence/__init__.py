"""Trained models and results on disk."""

from ptychostream.persistence.archive import load_bundle, save_bundle
from ptychostream.persistence.bundle import ModelBundle

__all__ = ["ModelBundle", "load_bundle", "save_bundle"]
