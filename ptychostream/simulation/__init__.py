"""Synthetic experiments: objects, probes, scan patterns, dose, detector and noise."""

from ptychostream.simulation.detector import Detector
from ptychostream.simulation.experiment import simulate_scan
from ptychostream.simulation.experiments import simulate_experiments
from ptychostream.simulation.labels import labels_from_experiment

__all__ = ["Detector", "labels_from_experiment", "simulate_experiments", "simulate_scan"]
