"""What measured amplitudes ask of exit waves: the update that the physics gives a network."""

import torch
from torch import Tensor

from ptychostream.physics import intensity

#: Keeps divisions finite where there is nothing: far below any photon, in the working unit.
_TINY = 1e-12

#: Where less than this part of the light is measured, its energy says little of the object's.
_LEAST_SHARE = 0.05


def known_share(beam: Tensor, known: Tensor) -> Tensor:
    """Find the part of a flat object's diffraction that is measured.

    Parameters
    ----------
    beam : (B, C, P, N, N) complex64
        Illumination of each pattern.
    known : (B, 1, N, N) float32
        Zero where nothing was measured, zero frequency in the corner.

    Returns
    -------
    (B,) float32
        Between a twentieth and one.
    """
    spread = intensity(torch.fft.fft2(beam, norm="ortho"))
    share = (spread * known).sum(dim=(1, 2, 3)) / spread.sum(dim=(1, 2, 3))
    return share.clamp_min(_LEAST_SHARE)


def wave_change(
    waves: Tensor, measured: Tensor, known: Tensor | None, distrust: Tensor | float
) -> Tensor:
    """Find the change of exit waves that measured amplitudes ask for.

    F⁻¹(t·(a/|Ψ| - 1)·Ψ), where Ψ = F ψ and |Ψ|² sums over incoherent modes. The trust
    t = |Ψ|² / (|Ψ|² + τ a²) holds back pixels that the model does not light yet: their phase
    is rounding noise, which the measured amplitude would blow up.

    Parameters
    ----------
    waves : (B, C, P, N, N) complex64
        Exit waves ψ of each pattern and mode.
    measured : (B, C, 1, N, N) float32
        Measured amplitude a, zero frequency in the corner.
    known : (B, 1, N, N) float32, optional
        Zero where nothing was measured: nothing is asked for there.

    Returns
    -------
    (B, C, P, N, N) complex64
        Changes of the waves.
    """
    spectrum = torch.fft.fft2(waves, norm="ortho")
    rate = intensity(spectrum)[:, :, None] + _TINY
    root = rate.sqrt()
    # Trust times (a/|Ψ| - 1), in as few passes over memory as it takes.
    excess = root * (measured - root) / (rate + distrust * measured.square())
    if known is not None:
        excess = excess * known[:, :, None]
    return torch.fft.ifft2(excess * spectrum, norm="ortho")
