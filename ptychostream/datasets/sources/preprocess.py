"""Change patterns on their way into a store: quadrants, orientation, bad pixels, crop, pad, bin.

The zero frequency stays at pixel (N/2, N/2). Where the detector's pixels come to mean something
else in the object plane, as in cropping, padding and binning, positions, probe and object guess
are changed to match; an orientation is a correction of the patterns alone.
"""

from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
from typing_extensions import override

from ptychostream.errors import ConfigurationError, DataContractError
from ptychostream.pattern_sources import ChangedPatterns, PatternSource
from ptychostream.scan import Scan

Orientation = Literal[
    "identity", "rot90", "rot180", "rot270", "flip_x", "flip_y", "transpose", "anti_transpose"
]


def _mirror(images: NDArray[Any], *axes: int) -> NDArray[Any]:
    """Mirror images about pixel N/2 of some axes; of an even number, pixel 0 has no partner."""
    return np.roll(np.flip(images, axes), 1, axes)


def _transpose(images: NDArray[Any]) -> NDArray[Any]:
    return np.swapaxes(images, -2, -1)


#: The symmetries of a square about the zero frequency, acting on (rows, columns) as the last
#: axes; rot90 turns counter-clockwise with the first row on top, flip_x mirrors left and right.
ORIENTATIONS: dict[str, Callable[[NDArray[Any]], NDArray[Any]]] = {
    "identity": lambda a: a,
    "rot90": lambda a: _mirror(_transpose(a), -2),
    "rot180": lambda a: _mirror(a, -2, -1),
    "rot270": lambda a: _mirror(_transpose(a), -1),
    "flip_x": lambda a: _mirror(a, -1),
    "flip_y": lambda a: _mirror(a, -2),
    "transpose": _transpose,
    "anti_transpose": lambda a: _mirror(_transpose(a), -2, -1),
}


@dataclass(frozen=True, kw_only=True)
class Preprocessing:
    """What happens to patterns, in this order.

    Attributes
    ----------
    leave_out : tuple of int
        Patterns that are left out with their positions: their numbers in the file, from 0.
    swap_quadrants : bool
        For patterns whose zero frequency lies in the corner: brings it to the centre.
    orientation : str
        How patterns are turned: a symmetry of the square.
    bad_pixels : str
        `keep` leaves their values and the mask; `zero` sets them to zero; `inpaint` fills them
        from their surroundings. The mask is kept in any case.
    bin : int
        Edge of the blocks of detector pixels that are added up.
    crop : int, optional
        Edge of the central window that is kept, in (binned) pixels.
    pad : int, optional
        Edge to which patterns are filled up with zeros.
    """

    leave_out: tuple[int, ...] = ()
    swap_quadrants: bool = False
    orientation: Orientation = "identity"
    bad_pixels: Literal["keep", "zero", "inpaint"] = "keep"
    bin: int = 1
    crop: int | None = None
    pad: int | None = None

    def __post_init__(self) -> None:
        """Refuse what can't be done.

        Raises
        ------
        ConfigurationError
            If a name is unknown or a number out of range.
        """
        if self.orientation not in ORIENTATIONS:
            raise ConfigurationError(
                f"no orientation {self.orientation!r}; there are {', '.join(ORIENTATIONS)}"
            )
        if self.bad_pixels not in ("keep", "zero", "inpaint"):
            raise ConfigurationError(
                f"bad_pixels={self.bad_pixels!r} must be 'keep', 'zero' or 'inpaint'"
            )
        if self.bin < 1:
            raise ConfigurationError(f"bin={self.bin} must be at least 1")
        for name, edge in (("crop", self.crop), ("pad", self.pad)):
            if edge is not None and (edge < 8 or edge % 2):
                raise ConfigurationError(f"{name}={edge} must be even and at least 8")


def preprocess(scan: Scan, options: Preprocessing) -> Scan:
    """Change a scan's patterns, and what depends on them; nothing is read yet.

    Binning the detector by b shrinks the field of view: the probe is cut to its central N/b
    pixels, and given the phase ramp of the (b - 1) / 2 pixels by which the middle of the block
    at the centre lies beside the zero frequency. Cropping or padding the detector from N to n
    pixels changes the object pixel by N/n: positions are scaled, and probe and object guess
    resampled in Fourier space.

    Parameters
    ----------
    scan : Scan
        The scan.
    options : Preprocessing
        What to do.

    Returns
    -------
    Scan
        The changed scan; its provenance holds the options.

    Raises
    ------
    DataContractError
        If the patterns can't be left out, binned, cropped or padded as asked.
    """
    scan = _without(scan, options.leave_out)
    edge = scan.N
    if edge % (2 * options.bin):
        raise DataContractError(f"{scan.name}: {edge} px can't be binned by {options.bin}")
    binned = edge // options.bin
    final = options.pad or options.crop or binned
    if options.crop is not None and options.crop > binned:
        raise DataContractError(f"{scan.name}: {binned} px can't be cropped to {options.crop}")
    if final < (options.crop or binned) and options.pad is not None:
        raise DataContractError(f"{scan.name}: pad={options.pad} is less than the patterns' edge")
    cut = (edge - binned) // 2
    probe = scan.probe[:, cut : edge - cut, cut : edge - cut]
    if options.bin > 1:
        ramp = _ramp(binned, (options.bin - 1) / (2 * options.bin))
        probe = (probe * ramp).astype(np.complex64)
    guess, positions, start = scan.object_guess, scan.positions, scan.positions_start
    metadata = scan.metadata
    if final != binned:
        factor = final / binned
        probe = resize_in_fourier_space(probe, (final, final))
        positions = positions * factor
        start = None if start is None else start * factor
        if guess is not None:
            shape = tuple(max(2, round(length * factor)) for length in guess.shape)
            guess = resize_in_fourier_space(guess, shape) * np.float32(
                np.sqrt(np.prod(shape) / guess.size)
            )
        if metadata.object_pixel_size_m is not None:
            metadata = replace(metadata, object_pixel_size_m=metadata.object_pixel_size_m / factor)
    if metadata.detector_pixel_size_m is not None:
        size = metadata.detector_pixel_size_m * options.bin
        metadata = replace(metadata, detector_pixel_size_m=size)
    turned = None if scan.bad_pixels is None else _oriented(scan.bad_pixels, options)
    mask = turned
    if mask is not None:
        blocks = mask.reshape(binned, options.bin, binned, options.bin)
        mask = _resize(np.asarray(blocks.any(axis=(1, 3))), options.crop, options.pad)
    return replace(
        scan,
        patterns=PreprocessedPatterns(
            scan.patterns,
            options,
            turned,
            is_amplitude=scan.measurement_domain == "amplitude",
            name=scan.name,
        ),
        positions=positions,
        positions_start=start,
        probe=np.ascontiguousarray(probe, np.complex64),
        object_guess=guess,
        bad_pixels=mask,
        metadata=metadata,
        provenance=scan.provenance | {"preprocessing": asdict(options)},
    )


class PreprocessedPatterns(ChangedPatterns):
    """Patterns that are changed when they are read.

    Parameters
    ----------
    mask : (N, N) bool, optional
        Bad pixels, in the new orientation.
    is_amplitude : bool
        Whether binning adds squares instead of values.
    """

    def __init__(
        self,
        source: PatternSource,
        options: Preprocessing,
        mask: NDArray[np.bool_] | None,
        *,
        is_amplitude: bool,
        name: str,
    ) -> None:
        super().__init__(source)
        self._options, self._mask = options, mask
        self._is_amplitude, self._name = is_amplitude, name

    @property
    @override
    def shape(self) -> tuple[int, int, int]:
        number, edge, _ = self._source.shape
        final = self._options.pad or self._options.crop or edge // self._options.bin
        return number, final, final

    @property
    @override
    def dtype(self) -> np.dtype[Any]:
        measured = self._source.dtype
        if self._options.bin == 1:
            return measured
        if measured.kind == "f":
            # Sums of float16 overflow and are inexact; ufuncs need the machine's byte order.
            return np.promote_types(measured, np.float32).newbyteorder("=")
        if self._is_amplitude:
            return np.dtype(np.float32)
        return np.dtype(f"{measured.kind}{4 if measured.itemsize <= 2 else 8}")

    @override
    def change(self, block: NDArray[Any]) -> NDArray[Any]:
        options = self._options
        block = _oriented(block, options)
        if self._mask is not None and self._mask.any() and options.bad_pixels != "keep":
            block = block.copy()
            if options.bad_pixels == "zero":
                block[:, self._mask] = 0
            else:
                for pattern in block:
                    _inpaint(pattern, self._mask)
        if options.bin > 1:
            self._check(block)
            binned = block.shape[-1] // options.bin
            values = np.square(block, dtype=self.dtype) if self._is_amplitude else block
            parts = values.reshape(len(block), binned, options.bin, binned, options.bin)
            block = parts.sum(axis=(2, 4), dtype=self.dtype)
            block = np.sqrt(block) if self._is_amplitude else block
        return np.ascontiguousarray(_resize(block, options.crop, options.pad), self.dtype)

    def _check(self, block: NDArray[Any]) -> None:
        """Refuse values that binning would hide in a sum."""
        wrong = ~(np.isfinite(block) & (block >= 0))
        if self._mask is not None:
            wrong &= ~self._mask
        if wrong.any():
            raise DataContractError(
                f"{self._name}: a pattern holds {block[wrong][0]}; patterns must be finite and not "
                "negative before they are binned: flag such pixels in bad_pixels, or replace them "
                "first"
            )


def _ramp(edge: int, shift: float) -> NDArray[np.complex128]:
    """Phases (N, N) that move a wave's diffraction by this many pixels up and to the left."""
    turn = np.exp(-2j * np.pi * shift * (np.arange(edge) - edge // 2) / edge)
    return turn[:, None] * turn


def _without(scan: Scan, numbers: tuple[int, ...]) -> Scan:
    if not numbers:
        return scan
    unknown = [number for number in numbers if not 0 <= number < scan.num_patterns]
    if unknown:
        raise DataContractError(
            f"{scan.name}: there is no pattern {unknown[0]} to leave out; they are numbered 0 to "
            f"{scan.num_patterns - 1}"
        )
    kept = np.setdiff1d(np.arange(scan.num_patterns), numbers)
    if not len(kept):
        raise DataContractError(f"{scan.name}: leave_out={list(numbers)} leaves no pattern")
    return scan.select(kept)


def _oriented(images: NDArray[Any], options: Preprocessing) -> NDArray[Any]:
    if options.swap_quadrants:
        images = np.fft.fftshift(images, axes=(-2, -1))
    return ORIENTATIONS[options.orientation](images)


def _inpaint(pattern: NDArray[Any], mask: NDArray[np.bool_]) -> None:
    """Fill masked pixels of one pattern in place, never below zero."""
    from skimage.restoration import inpaint_biharmonic

    filled = inpaint_biharmonic(np.where(mask, 0, pattern).astype(np.float64), mask)
    values = np.clip(filled[mask], 0, None)
    pattern[mask] = np.rint(values) if pattern.dtype.kind in "ui" else values


def _resize(images: NDArray[Any], crop: int | None, pad: int | None) -> NDArray[Any]:
    """Cut to, then fill up to, an even edge around the zero frequency at (N/2, N/2)."""
    if crop is not None:
        cut = (images.shape[-1] - crop) // 2
        images = images[..., cut : cut + crop, cut : cut + crop]
    if pad is not None:
        fill = (pad - images.shape[-1]) // 2
        before = [(0, 0)] * (images.ndim - 2)
        images = np.pad(images, [*before, (fill, fill), (fill, fill)])
    return images


def resize_in_fourier_space(
    images: NDArray[np.complex64], shape: tuple[int, ...]
) -> NDArray[np.complex64]:
    """Resample complex images by cutting or filling their spectrum; energy inside is kept."""
    spectrum = np.fft.fftshift(np.fft.fft2(images, norm="ortho"), axes=(-2, -1))
    out = np.zeros((*images.shape[:-2], *shape), complex)
    ours, theirs = [], []
    for old, new in zip(images.shape[-2:], shape, strict=True):
        first_old, first_new = max(old // 2 - new // 2, 0), max(new // 2 - old // 2, 0)
        length = min(old - first_old, new - first_new)
        ours.append(slice(first_old, first_old + length))
        theirs.append(slice(first_new, first_new + length))
    out[..., theirs[0], theirs[1]] = spectrum[..., ours[0], ours[1]]
    return np.fft.ifft2(np.fft.ifftshift(out, axes=(-2, -1)), norm="ortho").astype(np.complex64)
