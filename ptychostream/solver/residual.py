"""By how much the wave at each detector pixel should change."""

import torch
from torch import Tensor

#: Counts, or less, that keep the two residuals finite where nothing was measured or predicted.
#: They are small because they are what allows noise to settle in dark pixels.
_SCORE_SOFTENING, _MODULUS_SOFTENING = 0.03, 0.02

#: Typical count at which both residuals weigh the same.
_HALF_BRIGHT = 20.0

#: A pixel of few photons holds so many by chance; where all pixels hold many, none does.
_BY_CHANCE = 4.0

#: Beyond this share the other residual is left out, as it would not be seen.
_ALMOST_ALL = 0.995


def brightness(mean_counts: Tensor) -> float:
    """Return a number between 0 (few photons) and 1 (many), one for a scan.

    `mean_counts` (N, N): mean pattern, in photons.
    """
    # The mean count of the pixel that a photon falls into: dark pixels do not matter.
    typical = float(mean_counts.square().sum() / mean_counts.sum().clamp(min=1e-30))
    return typical / (typical + _HALF_BRIGHT)


def residual(counts: Tensor, rate: Tensor, *, brightness: float, trust: float) -> Tensor:
    """Find the relative correction of the wave at each detector pixel.

    With few counts it is the Poisson score (n / I - 1) / 2, which is right on average where
    most pixels hold nothing. With many counts it is √(n / I) - 1: the same to first order, and
    bounded where the model is still far off. Which one applies is decided by the scan's typical
    count and never by a pixel's own noisy count, which would be a bias.

    `counts` (B, N, N).
    `rate` (B, N, N): photons predicted, not zero.
    `trust`: where the model sends far less light than was measured, the phase of its wave is a
        guess; this holds such pixels back, but for counts that come by chance: a pixel that is held
        back whenever it holds a photon, and never when it holds none, darkens the object.
    Returns (B, N, N).
    """
    if brightness > _ALMOST_ALL:
        wanted = _modulus(counts, rate)
    elif brightness < 1 - _ALMOST_ALL:
        wanted = _score(counts, rate)
    else:
        wanted = torch.lerp(_score(counts, rate), _modulus(counts, rate), brightness)
    sure = (counts - _BY_CHANCE * (1 - brightness) ** 0.75).clamp_(min=0)
    return wanted.mul_(rate).div_(sure.mul_(trust).add_(rate))


def _score(counts: Tensor, rate: Tensor) -> Tensor:
    # Softened below the fraction alone, it is still zero on average.
    return (counts - rate).div_(rate + _SCORE_SOFTENING).mul_(0.5)


def _modulus(counts: Tensor, rate: Tensor) -> Tensor:
    return (counts + _MODULUS_SOFTENING).div_(rate + _MODULUS_SOFTENING).sqrt_().sub_(1)
