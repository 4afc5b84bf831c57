"""What may be wrong with a scan's geometry, and the options that mend it."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial, reduce

import numpy as np
from numpy.typing import NDArray

from ptychostream.datasets.sources.preprocess import ORIENTATIONS

#: Patterns (n, N, N), positions (n, 2) and probe (P, N, N) of a part of a scan.
Part = tuple[NDArray[np.float32], NDArray[np.float64], NDArray[np.complex64]]


@dataclass(frozen=True)
class Hypothesis:
    """A change of the scan that may be needed.

    `name`: what is wrong with the scan, in words.
    `options`: options of `build` that mend it.
    `change`: from patterns, positions and probe to the mended ones.
    `kind`: `none`, `orientation`, `axes`, `trigger`, `scale`, `probe`, `centre` or `pair`.
    `turn`: what `change` does to patterns (n, N, N) or a mask, where it moves their pixels.
    `parts`: the two hypotheses of a pair.
    """

    name: str
    options: tuple[str, ...]
    change: Callable[[Part], Part]
    kind: str
    turn: Callable[[NDArray[np.float32]], NDArray[np.float32]] | None = None
    parts: tuple["Hypothesis", ...] = ()


def hypotheses_for(
    part: Part, rows: NDArray[np.int64], positions: NDArray[np.float64]
) -> list[Hypothesis]:
    """List the hypotheses about a scan, the scan as it is first.

    `rows` (n,) are the part's patterns in the scan, `positions` (M, 2) those of the whole scan.
    """
    listed = [Hypothesis("as it is", (), lambda p: p, "none")]
    for name in ORIENTATIONS:
        if name != "identity":
            listed.append(
                Hypothesis(
                    f"patterns turned: {name}",
                    ("--orientation", name),
                    partial(_turned, name),
                    "orientation",
                    ORIENTATIONS[name],
                )
            )
    for text, matrix in _AXES.items():
        listed.append(
            Hypothesis(
                f"position axes: {text}",
                ("--position_transform", text),
                partial(_moved, np.array(matrix, float)),
                "axes",
            )
        )
    for shift in (-2, -1, 1, 2):
        listed.append(
            Hypothesis(
                f"patterns belong to the position {abs(shift)} "
                f"{'later' if shift > 0 else 'earlier'}",
                ("--trigger_shift", str(shift)),
                partial(_shifted, shift, rows, positions),
                "trigger",
            )
        )
    for factor in (0.8, 0.9, 1.1, 1.25):
        listed.append(
            Hypothesis(
                f"positions times {factor:g} (distance, energy or unit)",
                ("--position_transform", f"scale={factor:g}"),
                partial(_moved, factor * np.eye(2)),
                "scale",
            )
        )
    listed.append(
        Hypothesis(
            "the probe's defocus has the other sign",
            ("--probe_transform", "conjugate"),
            lambda p: (p[0], p[1], p[2].conj()),
            "probe",
        )
    )
    listed += [
        Hypothesis(
            f"the probe is mirrored: {name}",
            ("--probe_transform", name),
            partial(_mirrored, name),
            "probe",
        )
        for name in ("flip_x", "flip_y", "transpose")
    ]
    listed += _off_centre(part)
    return listed


#: Kinds in the order in which they act: a trigger takes positions as the scan has them.
_ORDER = ("centre", "orientation", "trigger", "axes", "scale", "probe")


def pairs(
    hypotheses: Sequence[Hypothesis], firsts: Sequence[Hypothesis] | None = None
) -> list[Hypothesis]:
    """List what two hypotheses of different kinds say together, one of them from `firsts`.

    Turned patterns with turned axes are left out: they mirror the whole experiment, or the probe.
    """
    single = sorted(
        (item for item in hypotheses if item.kind != "none"),
        key=lambda item: _ORDER.index(item.kind),
    )
    return [
        together(first, second)
        for number, first in enumerate(single)
        for second in single[number + 1 :]
        if first.kind != second.kind
        and {first.kind, second.kind} != {"orientation", "axes"}
        and (firsts is None or first in firsts or second in firsts)
    ]


def together(first: Hypothesis, second: Hypothesis) -> Hypothesis:
    """Join two hypotheses, the first of which acts first."""
    options = (*first.options, *second.options)
    if first.options[:1] == second.options[:1] != ():
        options = (first.options[0], f"{first.options[1]},{second.options[1]}")
    turns = [item.turn for item in (first, second) if item.turn is not None]
    return Hypothesis(
        f"{first.name}, and {second.name}",
        options,
        lambda part: second.change(first.change(part)),
        "pair",
        (lambda values: reduce(lambda v, turn: turn(v), turns, values)) if turns else None,
        (first, second),
    )


def curvatures(part: Part) -> list[Hypothesis]:
    """List beams of another defocus, which moves their rays by up to a fifth of their radius."""
    probe = part[2]
    edge = probe.shape[-1]
    along = np.arange(edge) - edge // 2
    far = np.fft.fftshift(np.fft.fft2(probe), axes=(-2, -1))
    radius, angle = (_radius(field, along) for field in (probe, far))
    return [
        Hypothesis(
            f"the probe's defocus is off: rays moved by {change:+.0%} of its radius",
            (),
            # Rays of the frequency angle / N land defocus · angle / (π N) pixels off.
            partial(_refocused, change * radius * np.pi * edge / angle),
            "probe",
        )
        for change in (-0.2, -0.1, 0.1, 0.2)
    ]


def _radius(field: NDArray[np.complexfloating], along: NDArray[np.int64]) -> float:
    """Return the root mean square radius of a field's intensity, in pixels."""
    power = (np.abs(field) ** 2).sum(axis=0, dtype=np.float64)
    squared = along[:, None] ** 2 + along**2
    return float(np.sqrt((power * squared).sum() / power.sum()))


def _refocused(defocus: float, part: Part) -> Part:
    patterns, positions, probe = part
    frequency = np.fft.fftfreq(probe.shape[-1])
    phase = defocus * (frequency[:, None] ** 2 + frequency**2)
    changed = np.fft.ifft2(np.fft.fft2(probe) * np.exp(1j * phase)).astype(np.complex64)
    return patterns, positions, changed


_AXES = {
    "swap": ((0, 1), (1, 0)),
    "flip_x": ((-1, 0), (0, 1)),
    "flip_y": ((1, 0), (0, -1)),
    "flip_x,flip_y": ((-1, 0), (0, -1)),
    "swap,flip_x": ((0, -1), (1, 0)),
    "swap,flip_y": ((0, 1), (-1, 0)),
    "swap,flip_x,flip_y": ((0, -1), (-1, 0)),
}


def _turned(name: str, part: Part) -> Part:
    return ORIENTATIONS[name](part[0]), part[1], part[2]


def _mirrored(name: str, part: Part) -> Part:
    return part[0], part[1], np.ascontiguousarray(ORIENTATIONS[name](part[2]))


def _moved(matrix: NDArray[np.float64], part: Part) -> Part:
    middle = part[1].mean(axis=0)
    return part[0], middle + (part[1] - middle) @ matrix.T, part[2]


def _shifted(
    shift: int, rows: NDArray[np.int64], positions: NDArray[np.float64], part: Part
) -> Part:
    """Pair pattern i with position i + shift; those without a partner are left out."""
    patterns, _, probe = part
    kept = (rows + shift >= 0) & (rows + shift < len(positions))
    return patterns[kept], positions[rows[kept] + shift], probe


def _off_centre(part: Part) -> list[Hypothesis]:
    """Return a hypothesis about the zero frequency, where the mean pattern lies elsewhere."""
    mean = part[0].mean(0, dtype=np.float64)
    edge = mean.shape[-1]
    bright = np.where(mean > 0.1 * mean.max(), mean, 0)
    along = np.arange(edge)
    x, y = ((bright.sum(axis) * along).sum() / bright.sum() for axis in (0, 1))
    shift = np.rint([x - edge / 2, y - edge / 2]).astype(int)
    if not shift.any():
        return []
    centre = f"{edge // 2 + shift[0]},{edge // 2 + shift[1]}"
    return [
        Hypothesis(
            f"the zero frequency lies at pixel {centre}",
            ("--centre", centre),
            partial(_centred, shift),
            "centre",
            partial(_rolled, shift),
        )
    ]


def _centred(shift: NDArray[np.int64], part: Part) -> Part:
    return _rolled(shift, part[0]), part[1], part[2]


def _rolled(shift: NDArray[np.int64], patterns: NDArray[np.float32]) -> NDArray[np.float32]:
    return np.roll(patterns, (-int(shift[1]), -int(shift[0])), axis=(1, 2))
