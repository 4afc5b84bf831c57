"""Reconstruct a store with a trained model: windows → network → object."""

from ptychostream.inference.options import choose_device, choose_experiment
from ptychostream.inference.pipeline import reconstruct

__all__ = ["choose_device", "choose_experiment", "reconstruct"]
