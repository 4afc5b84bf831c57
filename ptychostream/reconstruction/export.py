"""Results in the forms that other programs read: TIFF with the pixel size in its tags, and CXI."""

from dataclasses import dataclass, replace
from pathlib import Path

import h5py
import numpy as np
from numpy.typing import NDArray

from ptychostream.errors import DataContractError, MissingFileError, MissingPartError
from ptychostream.evaluation.align import bounding_box, without_ramp
from ptychostream.files import reading, whole_file

#: Positions that light a pixel of the part in which ramp and offset of the phase are found.
_WELL_COVERED = 3


@dataclass(frozen=True, eq=False, kw_only=True)
class SavedResult:
    """What `reconstruct` has saved in `object.npz`.

    `object` (H, W).
    `coverage` (H, W): number of positions that light a pixel.
    `origin` (2,): scan position (x, y) of the object's first pixel.
    `probe` (P, N, N).
    `positions` (M, 2): scan positions (x, y), in pixels.
    `pixel_size_m`: edge of a pixel; None where it is unknown.
    """

    object: NDArray[np.complex64]
    coverage: NDArray[np.float32]
    origin: NDArray[np.float64]
    probe: NDArray[np.complex64]
    positions: NDArray[np.float64]
    pixel_size_m: float | None

    @property
    def well_covered(self) -> NDArray[np.bool_]:
        """Where enough positions light a pixel, (H, W) bool."""
        return self.coverage >= min(_WELL_COVERED, float(self.coverage.max()))

    def cropped(self) -> "SavedResult":
        """Cut to the smallest rectangle that holds the well-covered part."""
        rows, columns = bounding_box(self.well_covered)
        return replace(
            self,
            object=self.object[rows, columns],
            coverage=self.coverage[rows, columns],
            origin=self.origin + np.array([columns.start, rows.start]),
        )


def read_result(path: Path) -> SavedResult:
    """Read the arrays of a result, from its folder or from its `object.npz`."""
    path = path / "object.npz" if path.is_dir() else path
    if not path.is_file():
        raise MissingFileError(f"no result '{path}'; name the folder that `reconstruct` wrote")
    with reading(path), np.load(path, allow_pickle=False) as arrays:
        lacking = {"object", "coverage", "origin", "probe", "positions"} - set(arrays.files)
        if lacking:
            raise DataContractError(
                f"'{path}' lacks {', '.join(sorted(lacking))}: it is no object.npz of `reconstruct`"
            )
        pixel = float(arrays["object_pixel_size_m"]) if "object_pixel_size_m" in arrays else np.nan
        return SavedResult(
            object=arrays["object"],
            coverage=arrays["coverage"],
            origin=arrays["origin"].astype(np.float64),
            probe=arrays["probe"],
            positions=arrays["positions"],
            pixel_size_m=pixel if np.isfinite(pixel) else None,
        )


def flat_phase(result: SavedResult, *, unwrap: bool = False) -> NDArray[np.float32]:
    """Return the phase (H, W) in radians without ramp and offset; NaN where nothing is lit.

    `unwrap`: whether phases beyond ±π are continued rather than wrapped.
    """
    flat = without_ramp(result.object, result.well_covered)
    phase = np.angle(flat)
    dark = result.coverage == 0
    if unwrap:
        from skimage.restoration import unwrap_phase

        continued = unwrap_phase(np.ma.masked_array(phase, dark))
        phase = np.ma.filled(continued, np.nan)
        region = result.well_covered
        # A whole number of turns is left open; the phase stays the same one.
        phase = phase - 2 * np.pi * np.rint(np.median(phase[region]) / (2 * np.pi))
    return np.where(dark, np.nan, phase).astype(np.float32)


def write_tiff(result: SavedResult, path: Path, *, unwrap: bool = False) -> list[Path]:
    """Write amplitude and phase as two TIFF files of 32-bit floats.

    The pixel size is in the tags of resolution, as pixels per centimetre, and in metres in the
    description, which is JSON. Row 0 is the first row of the object, at the smallest y.
    """
    try:
        import tifffile
    except ImportError as error:
        raise MissingPartError(
            "writing TIFF needs tifffile: pip install 'ptychostream[formats]'"
        ) from error
    amplitude = np.where(result.coverage == 0, np.nan, np.abs(result.object)).astype(np.float32)
    written = []
    for quantity, unit, image in (
        ("amplitude", "1", amplitude),
        ("phase", "rad", flat_phase(result, unwrap=unwrap)),
    ):
        target = path.with_name(f"{path.stem}_{quantity}{path.suffix}")
        tags = {}
        if result.pixel_size_m is not None:
            per_cm = 0.01 / result.pixel_size_m
            tags = {"resolution": (per_cm, per_cm), "resolutionunit": "CENTIMETER"}
        about = {
            "quantity": quantity,
            "unit": unit,
            "pixel_size_m": result.pixel_size_m or "unknown",
            "first_pixel_xy_px": result.origin.tolist(),
        }
        with whole_file(target) as partial:
            tifffile.imwrite(partial, image, photometric="minisblack", metadata=about, **tags)
        written.append(target)
    return written


def write_cxi(result: SavedResult, path: Path) -> None:
    """Write object, probe and positions as CXI (version 1.6): `entry_1/image_1`.

    Lengths are left out where the pixel size is unknown; positions are then in pixels.
    """
    pixel = result.pixel_size_m
    with whole_file(path) as partial, h5py.File(partial, "w") as file:
        file["cxi_version"] = 160
        file["number_of_entries"] = 1
        image = file.create_group("entry_1/image_1")
        image.create_dataset("data", data=result.object, compression="gzip")
        image["data_type"], image["data_space"] = "scattering potential", "real"
        image.create_dataset("mask", data=(result.coverage == 0).astype(np.uint32))
        image.create_dataset("coverage", data=result.coverage, compression="gzip")
        image["is_fft_shifted"] = 0
        image["process_1/command"] = "ptychostream reconstruct"
        instrument = file.create_group("entry_1/instrument_1")
        instrument.create_dataset("source_1/illumination", data=result.probe, compression="gzip")
        # From the object's first pixel, as those of patches: their pixel (N/2, N/2).
        steps = np.column_stack([result.positions - result.origin, np.zeros(len(result.positions))])
        geometry = file.create_group("entry_1/sample_1/geometry_1")
        geometry["translation"] = steps if pixel is None else steps * pixel
        geometry["translation"].attrs["units"] = "pixel" if pixel is None else "m"
        if pixel is not None:
            image["x_pixel_size"] = image["y_pixel_size"] = pixel
            image["image_size"] = np.array(result.object.shape[::-1]) * pixel
            for name in ("x_pixel_size", "y_pixel_size", "image_size"):
                image[name].attrs["units"] = "m"
        file["entry_1/data_1/data"] = h5py.SoftLink("/entry_1/image_1/data")
