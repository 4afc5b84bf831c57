"""Turn projected thickness into transmission: absorption and phase shift in physical terms."""

import inspect
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from ptychostream.errors import ConfigurationError

#: Draws a thickness from 0 to 1.
ThicknessFunction = Callable[..., NDArray[np.float64]]


def transmission(
    absorbing: NDArray[np.float64],
    refracting: NDArray[np.float64],
    *,
    absorption: tuple[float, float] = (0.0, 0.3),
    phase_shift: tuple[float, float] = (0.0, -0.8),
) -> NDArray[np.complex64]:
    """Let light through a material of given thickness (Beer-Lambert).

    `absorbing` (H, W): thickness that absorbs, from 0 to 1.
    `refracting` (H, W): thickness that shifts the phase, from 0 to 1; the same array for a single
        material.
    `absorption`: part of the intensity that is absorbed where the thickness is 0 and 1.
    `phase_shift`: phase of the transmission where the thickness is 0 and 1, in radians; matter
        advances the phase of X-rays, which is negative here.
    """
    if not all(0 <= part < 1 for part in absorption):
        raise ConfigurationError(f"absorption={tuple(absorption)} must lie in [0, 1)")
    thin, thick = (np.log1p(-part) / 2 for part in absorption)
    exponent = thin + (thick - thin) * absorbing
    phase = phase_shift[0] + (phase_shift[1] - phase_shift[0]) * refracting
    return np.exp(exponent + 1j * phase).astype(np.complex64)


@dataclass(frozen=True)
class Texture:
    """An object function made of a thickness function.

    `thickness`: takes a shape, a random generator and options; returns a thickness from 0 to 1.
    `structure`: `linked` where amplitude and phase show the same material, `independent` where they
        are drawn separately, so that neither can be guessed from the other.
    """

    thickness: ThicknessFunction
    structure: Literal["linked", "independent"] = "independent"

    @property
    def __signature__(self) -> inspect.Signature:
        """Every option that a call accepts: those of a texture and of its thickness."""
        options = {
            name: parameter
            for function in (Texture.__call__, self.thickness)
            for name, parameter in inspect.signature(function).parameters.items()
            if parameter.kind is inspect.Parameter.KEYWORD_ONLY
        }
        return inspect.Signature([*options.values()])

    def __call__(
        self,
        shape: tuple[int, int],
        rng: np.random.Generator,
        *,
        absorption: tuple[float, float] = (0.0, 0.3),
        phase_shift: tuple[float, float] = (0.0, -0.8),
        structure: Literal["linked", "independent"] | None = None,
        **options: Any,
    ) -> NDArray[np.complex64]:
        """Draw an object.

        `absorption`: part of the intensity that is absorbed where the thickness is 0 and 1.
        `phase_shift`: phase where the thickness is 0 and 1, in radians.
        """
        chosen = self.structure if structure is None else structure
        if chosen not in ("linked", "independent"):
            raise ConfigurationError(f"structure={structure!r} must be 'linked' or 'independent'")
        absorbing = self.thickness(shape, rng, **options)
        refracting = absorbing
        if chosen == "independent":
            refracting = self.thickness(shape, rng, **options)
        return transmission(absorbing, refracting, absorption=absorption, phase_shift=phase_shift)


def stretched(image: NDArray[np.float64]) -> NDArray[np.float64]:
    """Stretch an image to the range from 0 to 1.

    `image` (H, W).
    Returns (H, W): least value 0, largest 1; all 0 where the image is even.
    """
    low, high = float(image.min()), float(image.max())
    return np.zeros_like(image) if high == low else (image - low) / (high - low)
