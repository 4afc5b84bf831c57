"""Compare an object with a reference: align, then measure."""

from ptychostream.evaluation.align import Alignment, align_object
from ptychostream.evaluation.evaluate import Evaluation, evaluate_object, split_frc
from ptychostream.evaluation.frc import FourierRingCorrelation, fourier_ring_correlation

__all__ = [
    "Alignment",
    "Evaluation",
    "FourierRingCorrelation",
    "align_object",
    "evaluate_object",
    "fourier_ring_correlation",
    "split_frc",
]
