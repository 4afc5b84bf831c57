"""Positions made from steps, and changed: exchanged, mirrored, scaled, turned and sheared."""

import numpy as np
from numpy.typing import NDArray

from ptychostream.datasets.sources.units import is_number, quantity
from ptychostream.errors import ConfigurationError

_PLAIN = {
    "swap": np.array([[0.0, 1.0], [1.0, 0.0]]),
    "flip_x": np.diag([-1.0, 1.0]),
    "flip_y": np.diag([1.0, -1.0]),
}
_VALUED = ("scale", "scale_x", "scale_y", "rotate", "shear")


def raster(step: str, shape: tuple[int, int]) -> tuple[NDArray[np.float64], str]:
    """Make the positions (x, y) of a raster, whose columns are scanned first.

    `step`: `DX,DY`, or one for both; with a unit, or in pixels of the object.
    Returns `positions` (M, 2): in metres or pixels.
    Returns `unit`: `m` or `px`.
    """
    words = [word.strip() for word in step.strip("()[]").split(",")]
    words = words * 2 if len(words) == 1 else words
    if len(words) != 2:
        raise ConfigurationError(f"step={step!r} must be DX,DY, such as 50nm,50nm or 4,4")
    in_pixels = [is_number(word.removesuffix("px")) for word in words]
    if in_pixels[0] != in_pixels[1]:
        raise ConfigurationError(f"step={step!r}: give both steps with a unit, or neither")
    signs = [-1.0 if word.startswith("-") else 1.0 for word in words]
    sizes = [
        float(word.lstrip("-").removesuffix("px"))
        if in_pixels[0]
        else quantity(word.lstrip("-"), "m", option="step")
        for word in words
    ]
    rows, columns = np.indices(shape).reshape(2, -1)
    positions = np.stack([columns * (sizes[0] * signs[0]), rows * (sizes[1] * signs[1])], axis=1)
    return positions, "px" if in_pixels[0] else "m"


def shape_option(text: str) -> tuple[int, int]:
    """Read the option `scan_shape`: `ROWS,COLUMNS`."""
    try:
        rows, columns = (int(part) for part in text.strip("()[]").split(","))
    except ValueError as error:
        raise ConfigurationError(
            f"scan_shape={text!r} must be ROWS,COLUMNS, such as 20,30"
        ) from error
    if rows < 1 or columns < 1:
        raise ConfigurationError(f"scan_shape={text!r} must be above zero")
    return rows, columns


def transform_matrix(text: str | None, rotation_deg: float) -> NDArray[np.float64]:
    """Return the matrix (2, 2) that changes positions (x, y) as the options say."""
    matrix = np.eye(2)
    for word in [word.strip() for word in (text or "").split(",") if word.strip()]:
        name, _, value = word.partition("=")
        if name in _PLAIN and not value:
            matrix = _PLAIN[name] @ matrix
            continue
        if name not in _VALUED or not is_number(value):
            known = ", ".join([*_PLAIN, *(f"{name}=F" for name in _VALUED)])
            raise ConfigurationError(f"position_transform: {word!r} is none of {known}")
        matrix = _valued(name, float(value)) @ matrix
    return _valued("rotate", rotation_deg) @ matrix if rotation_deg else matrix


def _valued(name: str, value: float) -> NDArray[np.float64]:
    if name == "rotate":
        # Rows run downwards, so counter-clockwise on the picture is this sign.
        cosine, sine = np.cos(np.radians(value)), np.sin(np.radians(value))
        return np.array([[cosine, sine], [-sine, cosine]])
    if name == "shear":
        return np.array([[1.0, value], [0.0, 1.0]])
    factors = {"scale": (value, value), "scale_x": (value, 1.0), "scale_y": (1.0, value)}
    return np.diag(factors[name])
