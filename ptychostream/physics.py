"""Forward physics of far-field ptychography, as pure tensor functions.

One set of functions serves the simulation and the model. All shapes may have further leading
axes.
"""

import torch
from torch import Tensor


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

    A Fraunhofer transform in "ortho" scaling, so energy is kept (Parseval) and a photon count
    means the same on both planes.

    Parameters
    ----------
    wave : (..., N, N) complex
        Wave in the object plane, sampled in object pixels.

    Returns
    -------
    (..., N, N) complex
        Wave on the detector, zero frequency in the centre (N/2, N/2).

    Examples
    --------
    >>> wave = torch.ones(4, 4, dtype=torch.complex64)
    >>> propagate_far_field(wave).abs().argmax().item()  # pixel (2, 2)
    10
    """
    return torch.fft.fftshift(torch.fft.fft2(wave, norm="ortho"), dim=(-2, -1))


def propagate_back(wave: Tensor) -> Tensor:
    """Propagate a wave from the detector back to the object plane.

    The inverse, and the adjoint, of `propagate_far_field`.

    Parameters
    ----------
    wave : (..., N, N) complex
        Wave on the detector, zero frequency in the centre.

    Returns
    -------
    (..., N, N) complex
        Wave in the object plane.
    """
    return torch.fft.ifft2(torch.fft.ifftshift(wave, dim=(-2, -1)), norm="ortho")


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
    # Summing one mode would copy it.
    return each[..., 0, :, :] if each.shape[-3] == 1 else each.sum(dim=-3)


def fourier_shift(images: Tensor, shifts: Tensor) -> Tensor:
    """Shift images by fractions of a pixel, exactly for band-limited periodic images.

    The map is unitary: shifting by the opposite amount is its inverse and its adjoint.

    Parameters
    ----------
    images : (..., N, N) complex
        What is shifted; it wraps around at the edges.
    shifts : (..., 2) float
        Shift (x, y) in pixels; content moves towards larger x and y. The leading axes
        broadcast against those of `images`.

    Returns
    -------
    (..., N, N) complex
        The shifted images.
    """
    return torch.fft.ifft2(torch.fft.fft2(images) * _shift_factors(images, shifts))


def _shift_factors(images: Tensor, shifts: Tensor) -> Tensor:
    rows, columns = images.shape[-2:]
    shifts = shifts.to(images.real.dtype)
    x, y = shifts[..., 0, None], shifts[..., 1, None]
    frequency_x = torch.fft.fftfreq(columns, dtype=shifts.dtype, device=shifts.device)
    frequency_y = torch.fft.fftfreq(rows, dtype=shifts.dtype, device=shifts.device)
    turn = -2 * torch.pi
    along_x = torch.polar(torch.ones_like(x * frequency_x), turn * x * frequency_x)
    along_y = torch.polar(torch.ones_like(y * frequency_y), turn * y * frequency_y)
    return along_y[..., :, None] * along_x[..., None, :]
