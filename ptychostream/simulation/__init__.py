"""Synthetic experiments: objects, probes, scan patterns, dose and noise."""

from ptychostream.simulation.experiment import simulate_scan

__all__ = ["simulate_scan"]
