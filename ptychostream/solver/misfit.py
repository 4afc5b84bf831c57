"""How well a solution fits the patterns, and how well it could."""

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor


def r_sums(amplitude: Tensor, rate: Tensor, weight: Tensor | None) -> tuple[Tensor, Tensor]:
    """Return Σ|√n - √I| and Σ√n of each pattern, (B,) each; their ratio is the R-factor."""
    difference = rate.sqrt().sub_(amplitude).abs_()
    if weight is not None:
        difference.mul_(weight)
    return difference.sum((1, 2)), amplitude.sum((1, 2))


def poisson_deviance(counts: Tensor, rate: Tensor, weight: Tensor | None) -> Tensor:
    """Return 2 Σ (n ln(n / I) - n + I) of each pattern, (B,).

    Its mean for a pixel is about 1 where a true model sees many photons, and less where it
    sees few.
    """
    each = torch.xlogy(counts, counts / rate).sub_(counts).add_(rate).mul_(2)
    if weight is not None:
        each.mul_(weight)
    return each.sum((1, 2))


#: Logarithms of the rates at which the tables below are computed, and the largest count.
_EXPONENTS, _MOST = np.linspace(-6, 2, 400), 400


def _tables() -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return the expected |√n - √I| and deviance for n ~ Poisson(I), at the tabulated rates."""
    rate = 10.0**_EXPONENTS
    n = np.arange(_MOST, dtype=np.float64)[:, None]
    log_factorial = np.concatenate([[0], np.cumsum(np.log(np.arange(1, _MOST)))])[:, None]
    chance = np.exp(n * np.log(rate) - rate - log_factorial)
    ratio = np.where(n > 0, n * np.log(np.maximum(n, 1) / rate), 0)
    return (
        (chance * np.abs(np.sqrt(n) - np.sqrt(rate))).sum(0),
        (chance * 2 * (ratio - n + rate)).sum(0),
    )


class PhotonNoise:
    """What photon noise alone gives: expectations for n ~ Poisson(I), by rate."""

    def __init__(self) -> None:
        self._modulus, self._deviance = _tables()

    def modulus(self, rate: NDArray[np.floating]) -> NDArray[np.float64]:
        """Return E|√n - √I|; towards √(2/π) / 2 at many photons."""
        return self._look_up(rate, self._modulus, np.sqrt(2 / np.pi) / 2)

    def deviance(self, rate: NDArray[np.floating]) -> NDArray[np.float64]:
        """Return the expected deviance of a pixel; towards 1 at many photons."""
        return self._look_up(rate, self._deviance, 1.0)

    @staticmethod
    def _look_up(
        rate: NDArray[np.floating], table: NDArray[np.float64], limit: float
    ) -> NDArray[np.float64]:
        exponent = np.log10(np.maximum(rate, 10.0 ** _EXPONENTS[0]))
        return np.interp(exponent, _EXPONENTS, table, right=limit)
