"""Pictures of objects, coverage and losses, with colour bars and a scale."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from ptychostream.evaluation.evaluate import Evaluation
from ptychostream.evaluation.frc import FourierRingCorrelation
from ptychostream.files import whole_file

#: Patches that must cover a pixel for it to be drawn, and modes of a probe that are.
_COVERED, _MOST_MODES = 3, 6


def draw_object(
    obj: NDArray[np.complex64],
    coverage: NDArray[np.float32],
    folder: Path,
    *,
    pixel_size_m: float | None = None,
) -> list[Path]:
    """Draw amplitude, phase and coverage, one PNG each.

    `obj` (H, W).
    `coverage` (H, W): patches that cover each pixel.
    `pixel_size_m`: edge of an object pixel; without it the scale bar is in pixels.
    """
    known = coverage >= min(_COVERED, float(coverage.max()))
    turn = np.exp(-1j * np.angle(obj[known].sum()))
    amplitude = np.where(known, np.abs(obj), np.nan)
    phase = np.where(known, np.angle(obj * turn), np.nan)
    drawn = []
    for name, image, label, colours in (
        ("amplitude", amplitude, "amplitude", "gray"),
        ("phase", phase, "phase (rad)", "gray"),
        ("coverage", coverage, "patches per pixel", "viridis"),
    ):
        figure, axes = _new_figure(1, 1, (6.4, 5.2))
        _show(figure, axes[0], image, label, colours)
        _scale_bar(axes[0], image.shape[1], pixel_size_m)
        axes[0].set_title(name)
        drawn.append(_save(figure, folder / f"{name}.png"))
    return drawn


def draw_losses(history: Mapping[str, Sequence[float]], path: Path) -> Path:
    """Draw the loss of each epoch.

    `history`: name and values of each loss; entries of other kinds are ignored.
    """
    figure, axes = _new_figure(1, 1, (6.4, 4.2))
    losses = {name: values for name, values in history.items() if name.endswith("loss")}
    for name, values in losses.items():
        axes[0].plot(range(1, len(values) + 1), values, marker="o", label=name)
    longest = max((len(values) for values in losses.values()), default=1)
    axes[0].set_xlim(0.5, longest + 0.5)
    axes[0].locator_params(axis="x", integer=True)
    axes[0].set_xlabel("epoch")
    axes[0].set_ylabel("loss")
    axes[0].legend()
    axes[0].grid(alpha=0.3)
    return _save(figure, path)


def draw_evaluation(evaluation: Evaluation, path: Path) -> Path:
    """Draw object, reference and difference, and the Fourier ring correlation."""
    from ptychostream.evaluation.align import bounding_box

    box = bounding_box(evaluation.region)
    outside = ~evaluation.region[box]
    obj, truth = evaluation.alignment.object[box], evaluation.reference[box]
    turn = np.exp(-1j * np.angle(evaluation.reference[evaluation.region].sum()))
    figure, axes = _new_figure(2, 4, (17, 8), layout="constrained")
    rows = (
        ("amplitude", np.abs(obj), np.abs(truth)),
        ("phase (rad)", np.angle(obj * turn), np.angle(truth * turn)),
    )
    for row, (label, image, wanted) in enumerate(rows):
        image, wanted = (np.where(outside, np.nan, part) for part in (image, wanted))
        low, high = np.nanpercentile(wanted, [0.5, 99.5])
        for column, (title, part) in enumerate((("reconstruction", image), ("reference", wanted))):
            axis = axes[4 * row + column]
            _show(figure, axis, part, label, "gray", limits=(low, high))
            axis.set_title(f"{title}: {label}")
        spread = float(np.nanstd(wanted)) or 1.0
        axis = axes[4 * row + 2]
        limits = (-2 * spread, 2 * spread)
        _show(figure, axis, image - wanted, label, "RdBu", limits=limits)
        axis.set_title(f"difference: {label}")
    axis = axes[3]
    if evaluation.frc is None:
        axis.axis("off")
        axis.text(0.5, 0.5, "no FRC: the middle is not covered", ha="center", va="center")
    else:
        axis.plot(evaluation.frc.frequency, evaluation.frc.correlation, label="FRC")
        axis.plot(evaluation.frc.frequency, evaluation.frc.half_bit, "--", label="half bit")
        axis.axhline(1 / 7, color="gray", linestyle=":", label="1/7")
        axis.set_xlabel("spatial frequency (cycles/px)")
        axis.set_ylim(-0.1, 1.05)
        axis.legend()
    axes[7].axis("off")
    lines = [
        f"{name}: {value:.4g}"
        for name, value in evaluation.metrics.items()
        if isinstance(value, float)
    ]
    axes[7].text(0, 1, "\n".join(lines), va="top", family="monospace", fontsize=9)
    return _save(figure, path)


def _new_figure(
    rows: int,
    columns: int,
    size: tuple[float, float],
    *,
    layout: Literal["constrained"] | None = None,
) -> tuple[Any, list[Any]]:
    # Made without pyplot, whose state and backend belong to the caller.
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    # Looking for a layout takes as long as drawing: only where matplotlib's own margins are narrow.
    figure = Figure(figsize=size, layout=layout)
    FigureCanvasAgg(figure)
    axes = figure.subplots(rows, columns, squeeze=False)
    return figure, list(axes.ravel())


def _show(
    figure: Any,
    axis: Any,
    image: NDArray[Any],
    label: str,
    colours: str,
    limits: tuple[float, float] | None = None,
) -> None:
    if limits is None:
        low, high = np.nanpercentile(image, [0.5, 99.5])
        limits = (float(low), float(high if high > low else low + 1))
    shown = axis.imshow(
        image, cmap=colours, vmin=limits[0], vmax=limits[1], interpolation="nearest"
    )
    axis.set_xticks([])
    axis.set_yticks([])
    figure.colorbar(shown, ax=axis, label=label, shrink=0.85)


def _scale_bar(axis: Any, width: int, pixel_size_m: float | None) -> None:
    """Draw a bar of a round length, about a fifth of the picture."""
    unit, per_pixel = ("px", 1.0) if pixel_size_m is None else ("nm", pixel_size_m * 1e9)
    aim = width * per_pixel / 5
    power = 10 ** np.floor(np.log10(aim))
    length = power * max(step for step in (1, 2, 5) if step * power <= aim)
    label = f"{length / 1000:g} µm" if unit == "nm" and length >= 1000 else f"{length:g} {unit}"
    pixels = length / per_pixel
    start, end = 0.05, 0.05 + pixels / width
    axis.plot([start, end], [0.05, 0.05], transform=axis.transAxes, color="white", linewidth=5)
    axis.plot([start, end], [0.05, 0.05], transform=axis.transAxes, color="black", linewidth=2.5)
    axis.text(
        (start + end) / 2,
        0.075,
        label,
        transform=axis.transAxes,
        ha="center",
        color="black",
        bbox={"facecolor": "white", "alpha": 0.8, "edgecolor": "none", "pad": 1.5},
    )


def _save(figure: Any, path: Path) -> Path:
    with whole_file(Path(path)) as partial:
        figure.savefig(partial, dpi=110, format="png")
    return path


def draw_frc(frc: FourierRingCorrelation, path: Path, *, pixel_size_m: float | None = None) -> Path:
    """Draw a Fourier ring correlation and where it falls below its thresholds."""
    figure, axes = _new_figure(1, 1, (6.4, 5.2), layout="constrained")
    axis = axes[0]
    axis.plot(frc.frequency, frc.correlation, label="correlation of the halves")
    axis.plot(frc.frequency, frc.half_bit, "--", label="half bit")
    axis.axhline(1 / 7, color="gray", linestyle=":", label="1/7")
    crossing = frc.crossing(frc.half_bit)
    axis.axvline(crossing, color="tab:red", linewidth=1)
    axis.text(crossing - 0.005, 0.03, resolution(frc, pixel_size_m), ha="right", color="tab:red")
    axis.set_xlabel("spatial frequency (cycles/px)")
    axis.set_ylabel("Fourier ring correlation")
    axis.set_xlim(0, 0.51)
    axis.set_ylim(-0.1, 1.05)
    axis.grid(alpha=0.3)
    # Below the axis, so that it hides no curve.
    axis.legend(loc="upper center", bbox_to_anchor=(0.5, -0.12), ncols=3, frameon=False)
    return _save(figure, path)


def half_period(frc: FourierRingCorrelation) -> float:
    """Return the half period in pixels at which a correlation falls below half a bit."""
    return float(0.5 / frc.crossing(frc.half_bit))


def resolution(frc: FourierRingCorrelation, pixel_size_m: float | None = None) -> str:
    """Return the resolution at which a correlation falls below half a bit.

    Returns the half period, in pixels or nanometres; "≤" where the pixels are the limit.
    """
    pixels = half_period(frc)
    is_limit = "≤ " if pixels <= 1 else ""
    if pixel_size_m is None:
        return f"{is_limit}{pixels:.1f} px"
    return f"{is_limit}{pixels * pixel_size_m * 1e9:.3g} nm ({pixels:.1f} px)"


def draw_timing(seconds: Mapping[str, float], path: Path) -> Path:
    """Draw the time of each part of a reconstruction."""
    figure, axes = _new_figure(1, 1, (6.4, 5.2))
    names = list(seconds)[::-1]
    bars = axes[0].barh(names, [seconds[name] for name in names], color="tab:blue")
    axes[0].bar_label(bars, [f" {seconds[name]:.1f} s" for name in names])
    axes[0].margins(x=0.2)
    axes[0].set_xlabel("seconds")
    axes[0].spines[["top", "right"]].set_visible(False)
    return _save(figure, path)


def draw_misfit(misfit: Sequence[float], path: Path) -> Path:
    """Draw the R-factor of each pass."""
    figure, axes = _new_figure(1, 1, (6.4, 4.2))
    axis = axes[0]
    axis.plot(np.arange(1, len(misfit) + 1), misfit, marker="o", markersize=3)
    axis.set_xlabel("pass")
    axis.set_ylabel("misfit R")
    axis.set_ylim(bottom=0)
    axis.spines[["top", "right"]].set_visible(False)
    return _save(figure, path)


def draw_misfit_map(
    positions: NDArray[np.float64], misfit: NDArray[np.float32], path: Path
) -> Path:
    """Draw the R-factor of each pattern (M,) at its position (M, 2): where it does not fit."""
    figure, axes = _new_figure(1, 1, (6.4, 5.2))
    axis, known = axes[0], np.isfinite(misfit)
    size = float(np.clip(6e4 / max(len(misfit), 1), 1, 60))
    limits = np.percentile(misfit[known], (1, 99)) if known.any() else (0, 1)
    dots = axis.scatter(
        *positions[known].T, c=misfit[known], s=size, cmap="viridis", vmin=limits[0], vmax=limits[1]
    )
    figure.colorbar(dots, ax=axis, label="misfit R of the pattern")
    axis.set_aspect("equal")
    # As in the pictures of the object: y runs downwards.
    axis.invert_yaxis()
    axis.set_xlabel("x, px")
    axis.set_ylabel("y, px")
    return _save(figure, path)


def draw_probe(probe: NDArray[np.complex64], path: Path) -> Path:
    """Draw the modes (P, N, N) of a probe: amplitude as brightness, phase as colour."""
    from matplotlib.colors import hsv_to_rgb

    shown = min(len(probe), _MOST_MODES)
    power = (np.abs(probe) ** 2).sum(axis=(1, 2))
    figure, axes = _new_figure(1, shown, (3.4 * shown + 0.6, 3.8), layout="constrained")
    for axis, mode, share in zip(axes, probe, power / power.sum(), strict=False):
        size = np.abs(mode) / max(float(np.abs(mode).max()), 1e-30)
        hue = (np.angle(mode) / (2 * np.pi)) % 1
        axis.imshow(hsv_to_rgb(np.stack([hue, np.ones_like(hue), size], axis=-1)))
        axis.set_title(f"{share:.1%} of the power")
        axis.set_xticks([])
        axis.set_yticks([])
    return _save(figure, path)
