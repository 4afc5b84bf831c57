"""Between ptychodus's inputs and products, in metres, and scans and objects, in pixels.

ptychodus puts coordinate 0 of an object between its two middle pixels, half a pixel before our
count begins, and measures from the object's centre.
"""

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray
from ptychodus.api.object import Object, ObjectCenter
from ptychodus.api.probe import ProbeSequence
from ptychodus.api.probe_positions import ProbePosition, ProbePositionSequence
from ptychodus.api.product import LossValue, Product
from ptychodus.api.reconstruct import ReconstructInput

from ptychodus_ext.compatibility import is_far_field, photon_energy_eV
from ptychostream.datasets.sources.ptychodus.conventions import HALF_PIXEL
from ptychostream.errors import DataContractError
from ptychostream.geometry import ObjectGrid
from ptychostream.scan import ArrayPatterns, Scan, ScanMetadata


def positions_in_pixels(product: Product) -> NDArray[np.float64]:
    """Convert a product's positions to pixels of its object.

    Returns (M, 2): positions (x, y), in our count.
    """
    metres = np.array([(point.x_m, point.y_m) for point in product.probe_positions], float)
    origin, pixel = _frame(product.object_)
    return (metres.reshape(-1, 2) - origin) / pixel + HALF_PIXEL


def _frame(obj: Object) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Find the coordinates (x, y) of an object's first pixel, and the edges of a pixel, in m."""
    geometry = obj.get_geometry()
    pixel = np.array([geometry.pixel_width_m, geometry.pixel_height_m])
    middle = np.array([(geometry.width_px - 1) / 2, (geometry.height_px - 1) / 2])
    return np.array([geometry.center_x_m, geometry.center_y_m]) - middle * pixel, pixel


def scan_of(parameters: ReconstructInput) -> Scan:
    """Convert a reconstruction's input to a scan of counts; the patterns are not copied."""
    product = parameters.product
    metadata: Any = product.metadata
    if not is_far_field(metadata):
        raise DataContractError(
            f"product '{metadata.name}' is measured in the near field, which PtychoStream does "
            "not reconstruct; choose another algorithm, or set the product's propagation to Far "
            "Field if its detector is in the far field"
        )
    patterns = parameters.diffraction_patterns
    # Binned uint32 patterns have another type of NumPy, which is only printed as uint64.
    patterns = patterns.view(np.dtype(patterns.dtype.str))
    bad = np.asarray(parameters.bad_pixels, bool)
    return Scan(
        name=f"product '{metadata.name}'",
        patterns=ArrayPatterns(patterns),
        measurement_domain="counts",
        positions=positions_in_pixels(product),
        probe=product.probes.get_probe_no_opr().get_array().astype(np.complex64),
        object_guess=product.object_.get_layer(0).astype(np.complex64),
        scan_index=np.array([point.index for point in product.probe_positions], np.int64),
        bad_pixels=bad if bad.any() else None,
        metadata=ScanMetadata(
            energy_eV=photon_energy_eV(metadata),
            detector_distance_m=metadata.detector_distance_m,
            object_pixel_size_m=product.object_.get_pixel_geometry().width_m,
        ),
        provenance={"format": "ptychodus", "product": metadata.name},
    )


def left_out(product: Product) -> list[str]:
    """Return which parts of a product are not used, a sentence each."""
    sentences = []
    if product.probes.num_coherent_modes > 1:
        sentences.append(
            f"the probe of '{product.metadata.name}' varies along the scan "
            f"({product.probes.num_coherent_modes} coherent modes): the first mode is used for "
            "all positions"
        )
    if product.object_.num_layers > 1:
        sentences.append(
            f"the object of '{product.metadata.name}' has {product.object_.num_layers} layers: "
            "the first is used, and the result has one layer"
        )
    return sentences


def product_with(
    product: Product,
    obj: NDArray[np.complex64],
    probe: NDArray[np.complex64],
    losses: Sequence[float],
    *,
    positions: NDArray[np.float64] | None = None,
    comment: str = "",
) -> Product:
    """Replace object, probe and losses of a product by a result.

    `obj` (H, W): the object, on the product's own grid.
    `probe` (P, N, N).
    `positions` (M, 2): corrected positions (x, y) in pixels; None keeps those of the product.
    `comment`: added to the product's comments.
    """
    old = product.object_
    metadata = product.metadata
    if comment:
        comments = "\n".join(filter(None, (metadata.comments, comment)))
        metadata = replace(metadata, comments=comments)
    points = product.probe_positions
    if positions is not None:
        origin, pixel = _frame(old)
        metres = origin + (positions - HALF_PIXEL) * pixel
        points = ProbePositionSequence(
            [
                replace(point, x_m=float(x), y_m=float(y))
                for point, (x, y) in zip(points, metres, strict=True)
            ]
        )
    return replace(
        product,
        metadata=metadata,
        probe_positions=points,
        object_=Object(obj, old.get_pixel_geometry(), old.get_center()),
        probes=ProbeSequence(probe[None], None, product.probes.get_pixel_geometry()),
        losses=[LossValue(epoch, float(loss)) for epoch, loss in enumerate(losses, 1)],
    )


def product_of_store(
    product: Product,
    positions: NDArray[np.float64],
    grid: ObjectGrid,
    numbers: NDArray[np.int64] | None = None,
) -> Product:
    """Replace the positions that ptychodus has loaded by those of a store.

    `positions` (M, 2): positions (x, y) of the store, in pixels.
    `grid`: where the object will lie; where it is the input object's, its centre stays.
    `numbers` (M,): the pattern that each position belongs to; None is 0, 1, ….
    """
    old = product.object_
    first, pixel = _frame(old)
    if grid.shape != (old.height_px, old.width_px):
        first = np.asarray(grid.origin) * pixel
    size = np.array([grid.shape[1], grid.shape[0]])
    centre = first + (size - 1) / 2 * pixel
    metres = first + (positions - np.asarray(grid.origin) - HALF_PIXEL) * pixel
    points = [
        ProbePosition(int(number), float(x), float(y))
        for number, (x, y) in zip(
            range(len(metres)) if numbers is None else numbers, metres, strict=True
        )
    ]
    blank = np.ones(grid.shape, np.complex64)
    return replace(
        product,
        probe_positions=ProbePositionSequence(points),
        object_=Object(blank, old.get_pixel_geometry(), ObjectCenter(*centre.tolist())),
    )
