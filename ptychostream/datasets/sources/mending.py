"""Options that read a scan and mend it: those of its reading, and those that mend the result."""

from dataclasses import replace
from typing import Any

import numpy as np

from ptychostream.datasets.sources.options import InputOptions
from ptychostream.datasets.sources.preprocess import ORIENTATIONS, Orientation
from ptychostream.scan import Scan


def mended(options: InputOptions, mend: list[str], scan: Scan, *, is_file: bool) -> InputOptions:
    """Return the options with which a scan is read and mended at once.

    `options`: those that it was read with.
    `mend`: options and their values, in turn, that mend the scan as it was read.
    `scan`: the scan as it was read.
    `is_file`: whether it was read from a file, and not from a store of ours.
    """
    read = scan.provenance if is_file else {}
    current: Orientation = options.orientation or read.get("orientation", "identity")
    changes: dict[str, Any] = {}
    for name, value in zip(mend[::2], mend[1::2], strict=True):
        match name.removeprefix("--"):
            case "orientation":
                changes["orientation"] = one_after_the_other(current, value)
            case "position_transform":
                before = [options.position_transform or ""]
                if options.scan_rotation:
                    # Positions are turned after they are transformed.
                    before.append(f"rotate={options.scan_rotation:g}")
                    changes["scan_rotation"] = 0.0
                changes["position_transform"] = ",".join(filter(None, [*before, value]))
            case "trigger_shift":
                changes["trigger_shift"] = options.trigger_shift + int(value)
            case "probe_transform":
                before = [word for word in options.probe_transform.split(",") if word != "none"]
                if before and before[-1] == value:
                    # Twice the same is nothing.
                    changes["probe_transform"] = ",".join(before[:-1]) or "none"
                else:
                    changes["probe_transform"] = ",".join([*before, value])
            case "centre":
                changes["centre"] = _centre_in_file(value, current, options, scan, read)
            case other:
                changes[other] = value
    return replace(options, **changes)


def one_after_the_other(first: str, second: str) -> Orientation:
    """Return the orientation that does two."""
    square = np.arange(16).reshape(4, 4)
    wanted = ORIENTATIONS[second](ORIENTATIONS[first](square))
    for name, turn in ORIENTATIONS.items():
        if np.array_equal(turn(square), wanted):
            return name  # type: ignore[return-value]
    raise AssertionError("orientations are a group")


def _centre_in_file(
    text: str, current: Orientation, options: InputOptions, scan: Scan, read: dict[str, Any]
) -> str:
    """Convert a centre (x, y) of the patterns as they were read to the detector's pixels."""
    x, y = (float(part) for part in text.split(","))
    middle = read.get("window_middle") or [scan.N * options.bin // 2] * 2
    probe = np.zeros((8, 8))
    probe[4, 5], probe[5, 4] = 1, 2
    turned = ORIENTATIONS[current](probe)
    # Where the detector's own x and y run in the patterns as they were read.
    along = [np.argwhere(turned == mark)[0][::-1] - 4 for mark in (1, 2)]
    away = np.array([x, y]) - scan.N // 2
    moved = [round(float(axis @ away) * options.bin) for axis in along]
    return f"{middle[0] + moved[0]},{middle[1] + moved[1]}"
