"""Forward physics of far-field ptychography, as pure tensor functions.

One set of functions serves the simulation and the model. All shapes may have further leading
axes.
"""

import torch
from torch import Tensor

#: Light, relative to the brightest pixel, below which a pixel counts as unlit.
UNLIT = 1e-3

#: Keeps divisions finite where there is nothing: far below any photon, in the working unit.
_TINY = 1e-12


def exit_wave(object_patches: Tensor, probe: Tensor) -> Tensor:
    """Illuminate object patches with the probe (thin-object approximation).

    Parameters
    ----------
    object_patches : (..., N, N) complex
        Transmission of the object under each scan position.
    probe : (P, N, N) complex or (..., P, N, N) complex
        Illumination, one entry per incoherent mode.

    Returns
    -------
    (..., P, N, N) complex
        Wave behind the object, one per mode.

    Raises
    ------
    ValueError
        If patch and probe differ in their last two axes.
    """
    if object_patches.shape[-2:] != probe.shape[-2:]:
        raise ValueError(
            f"patches are {tuple(object_patches.shape[-2:])} px but the probe is "
            f"{tuple(probe.shape[-2:])} px; crop or pad one of them first"
        )
    return object_patches.unsqueeze(-3) * probe


def propagate_far_field(wave: Tensor) -> Tensor:
    """Propagate a wave from the object plane to a distant detector.

    A Fraunhofer transform in "ortho" scaling, so the power is the same in both planes (Parseval).

    Parameters
    ----------
    wave : (..., N, N) complex
        Wave in the object plane, sampled in object pixels.

    Returns
    -------
    (..., N, N) complex
        Wave on the detector, zero frequency at pixel (N/2, N/2).

    Examples
    --------
    >>> wave = torch.ones(4, 4, dtype=torch.complex64)
    >>> propagate_far_field(wave).abs().argmax().item()  # pixel (2, 2)
    10
    """
    return torch.fft.fftshift(torch.fft.fft2(wave, norm="ortho"), dim=(-2, -1))


def intensity(waves: Tensor) -> Tensor:
    """Add the intensities of incoherent modes.

    Parameters
    ----------
    waves : (..., P, N, N) complex
        One wave per mode.

    Returns
    -------
    (..., N, N) float
        Sum over the modes of |wave|².
    """
    each = waves.real.square() + waves.imag.square()
    # A sum over one mode would copy it.
    return each[..., 0, :, :] if each.shape[-3] == 1 else each.sum(dim=-3)


def fourier_shift(images: Tensor, shifts: Tensor) -> Tensor:
    """Shift images by fractions of a pixel, exactly for band-limited periodic images.

    The map is unitary: shifting by the opposite amount is its inverse and its adjoint.

    Parameters
    ----------
    images : (..., N, N) complex
        Images; they wrap around at the edges.
    shifts : (..., 2) float
        Shift (x, y) in pixels; content moves towards larger x and y. The leading axes
        broadcast against those of `images`.

    Returns
    -------
    (..., N, N) complex
        The shifted images.
    """
    rows, columns = images.shape[-2:]
    shifts = shifts.to(images.real.dtype)
    along_x = shift_factors(shifts[..., 0, None], _frequencies(columns, shifts))
    along_y = shift_factors(shifts[..., 1, None], _frequencies(rows, shifts))
    factors = along_y[..., :, None] * along_x[..., None, :]
    return torch.fft.ifft2(torch.fft.fft2(images) * factors)


def shift_factors(shifts: Tensor, frequencies: Tensor) -> Tensor:
    """Return the factors exp(-2πi · shift · frequency) that shift along one axis.

    A spectrum along that axis, times the factors, is the spectrum of what was shifted.

    Parameters
    ----------
    shifts, frequencies : (...) float
        Pixels, and cycles a pixel as `torch.fft.fftfreq` gives them; they broadcast.

    Returns
    -------
    (...) complex
        Factors of modulus one.
    """
    angle = -2 * torch.pi * shifts * frequencies
    return torch.polar(torch.ones_like(angle), angle)


def _frequencies(length: int, like: Tensor) -> Tensor:
    return torch.fft.fftfreq(length, dtype=like.dtype, device=like.device)


def wave_change(
    waves: Tensor, measured: Tensor, known: Tensor | None, distrust: Tensor | float
) -> Tensor:
    """Find the change of exit waves that measured amplitudes ask for.

    F⁻¹(t·(a/|Ψ| - 1)·Ψ), where Ψ = F ψ and |Ψ|² sums over incoherent modes. The trust
    t = |Ψ|² / (|Ψ|² + τ a²) holds back pixels that the model does not light yet: their phase
    is rounding noise, which the measured amplitude would blow up.

    Parameters
    ----------
    waves : (..., P, N, N) complex64
        Exit waves ψ of each pattern and mode.
    measured : (..., N, N) float32
        Measured amplitude a, zero frequency in the corner.
    known : (..., N, N) float32, optional
        Zero where nothing was measured, one elsewhere, zero frequency in the corner; broadcasts.
    distrust : float or () float32
        τ: the part of the measured intensity that the model must reach for a trust of a half.

    Returns
    -------
    (..., P, N, N) complex64
        Changes of the waves.

    References
    ----------
    Maiden, Johnson & Li, Optica 4 (2017) 736, for the step without the trust.
    """
    spectrum = torch.fft.fft2(waves, norm="ortho")
    rate = intensity(spectrum) + _TINY
    root = rate.sqrt()
    # Trust times (a/|Ψ| - 1), in as few passes over memory as it takes.
    excess = root * (measured - root) / (rate + distrust * measured.square())
    if known is not None:
        excess = excess * known
    return torch.fft.ifft2(excess[..., None, :, :] * spectrum, norm="ortho")


def support_half_width(light: Tensor, unlit: float = UNLIT) -> int:
    """Measure the lit part of patches; the host waits for the device.

    Parameters
    ----------
    light : (..., N, N) float32
        Light, or trust, on each pixel.
    unlit : float
        Part of a patch's brightest pixel below which a pixel counts as unlit.

    Returns
    -------
    int
        Half the edge of the smallest window around pixel N/2 that holds all lit pixels; N/2
        where no pixel is a finite number, which the caller reports.
    """
    middle = light.shape[-1] // 2
    lit = light >= unlit * light.amax(dim=(-2, -1), keepdim=True)
    lit = lit.reshape(-1, *light.shape[-2:]).any(dim=0)
    along = torch.nonzero(lit.any(dim=0) | lit.any(dim=1)).flatten()
    if not len(along):
        return middle
    return min(max(middle - int(along[0]), int(along[-1]) + 1 - middle), middle)
