"""One self-contained page about a reconstruction: pictures, numbers, warnings, configuration."""

import base64
import html
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from ptychostream.errors import DataContractError
from ptychostream.files import whole_file

#: The file that the page is made from, beside the pictures.
RECORD = "report.json"
#: The page.
REPORT = "report.html"

#: Entries of that file.
_RECORD_KINDS = {
    "title": str,
    "subtitle": str,
    "tiles": list,
    "warnings": list,
    "numbers": dict,
    "configuration": dict,
}

#: Pictures that the page shows if they are there: file, heading, and what it shows.
_PICTURES = (
    (
        "amplitude.png",
        "Amplitude",
        "Transmission of the object; pixels that fewer than three positions light are blank.",
    ),
    ("phase.png", "Phase", "Phase shift of the object, around its mean."),
    ("probe.png", "Probe", "Modes of the beam: brightness is amplitude, colour is phase."),
    ("misfit.png", "Misfit", "R of all patterns, as met in each pass of the solver."),
    ("misfit_map.png", "Where it fits", "R of each pattern, at its scan position."),
    ("coverage.png", "Coverage", "Different scan positions that light each pixel."),
    (
        "frc.png",
        "Resolution without a reference",
        "Fourier ring correlation of two stitched objects, each from every other position.",
    ),
    ("losses.png", "Losses", "Of each epoch of the training of this model."),
    ("timing.png", "Time", "Parts of the work; some of them run at the same time."),
)

#: Figures of merit that are shown large.
_HEADLINES = (
    "amplitude psnr",
    "amplitude ssim",
    "phase rmse",
    "phase ssim",
    "phase correlation",
)

_STYLE = """
:root { color-scheme: light dark; --ink: #1c2430; --soft: #5b6675; --line: #d9dee5;
  --paper: #f5f7f9; --card: #ffffff; --accent: #1f5fa8; --warn: #8a4b00; --warn-paper: #fff4e2; }
@media (prefers-color-scheme: dark) { :root { --ink: #e6eaf0; --soft: #a3adba; --line: #343c47;
  --paper: #14181d; --card: #1d232b; --accent: #7fb2ee; --warn: #ffc27a; --warn-paper: #3a2a14; } }
* { box-sizing: border-box; }
body { margin: 0; background: var(--paper); color: var(--ink);
  font: 16px/1.5 system-ui, "Segoe UI", "DejaVu Sans", sans-serif; }
main { max-width: 1180px; margin: 0 auto; padding: 2rem 1.25rem 4rem; }
h1 { font-size: 1.7rem; margin: 0; overflow-wrap: anywhere; }
h2 { font-size: 1.15rem; margin: 2.4rem 0 .8rem; }
p { margin: .3rem 0; } .soft { color: var(--soft); font-size: .92rem; }
.tiles { display: grid; gap: .8rem; margin: 1.4rem 0;
  grid-template-columns: repeat(auto-fit, minmax(165px, 1fr)); }
.tile, figure, table, details, .warnings { background: var(--card);
  border: 1px solid var(--line); border-radius: 8px; }
.tile { padding: .8rem 1rem; } .tile b { display: block; font-size: 1.35rem; font-weight: 600; }
.warnings { padding: .8rem 1.2rem; background: var(--warn-paper); color: var(--warn); }
.warnings ul { margin: .2rem 0; padding-left: 1.2rem; }
.pictures { display: grid; gap: 1rem;
  grid-template-columns: repeat(auto-fit, minmax(min(100%, 460px), 1fr)); }
figure { margin: 0; padding: .8rem; } figure img { width: 100%; height: auto; display: block;
  background: #ffffff; border-radius: 4px; }
figure.wide { margin-bottom: 1rem; }
figcaption { padding-top: .5rem; } figcaption b { display: block; }
table { border-collapse: separate; border-spacing: 0; width: 100%; overflow: hidden; }
td, th { padding: .4rem .9rem; text-align: left; border-top: 1px solid var(--line);
  overflow-wrap: anywhere; } tr:first-child > * { border-top: 0; }
th { font-weight: 500; color: var(--soft); width: 40%; }
td { font-variant-numeric: tabular-nums; }
details { padding: .7rem 1rem; margin: .6rem 0; } summary { cursor: pointer; color: var(--accent); }
pre { overflow-x: auto; font-size: .85rem; }
"""


def write_report(folder: Path) -> Path:
    """Write `report.html` from the files in a result's folder.

    The page needs no other file and no network.
    """
    config, evaluation = folder / "config.yaml", folder / "evaluation.json"
    try:
        record: dict[str, Any] = json.loads((folder / RECORD).read_text())
        metrics = json.loads(evaluation.read_text()) if evaluation.exists() else None
        configuration = config.read_text() if config.exists() else None
    except (OSError, ValueError) as error:
        raise DataContractError(f"no report can be made from '{folder}': {error}") from error
    _check_record(folder / RECORD, record)
    if not isinstance(metrics, dict | None):
        raise DataContractError(
            f"no report can be made: '{evaluation}' holds a {type(metrics).__name__}, expected an "
            "object of figures of merit; evaluate again"
        )
    return write_page(folder, record, metrics=metrics, configuration=configuration)


def write_page(
    folder: Path,
    record: Mapping[str, Any],
    *,
    metrics: Mapping[str, Any] | None = None,
    configuration: str | None = None,
) -> Path:
    """Write `report.html` from a record and the pictures in a folder."""
    parts = [
        f"<h1>{as_text(record['title'])}</h1>",
        f'<p class="soft">{as_text(record["subtitle"])}</p>',
        as_tiles(record["tiles"]),
        _warnings(record["warnings"]),
        "<h2>Object</h2>",
        _pictures(folder, [p for p in _PICTURES if p[0] in ("amplitude.png", "phase.png")]),
    ]
    if metrics is not None:
        parts += ["<h2>Against a reference</h2>", _evaluation(folder, metrics)]
    rest = [p for p in _PICTURES if p[0] not in ("amplitude.png", "phase.png")]
    parts += ["<h2>Probe, fit and time</h2>", _pictures(folder, rest)]
    parts += ["<h2>Numbers</h2>", _table(record["numbers"]), "<h2>Configuration</h2>"]
    texts = dict(record["configuration"])
    if configuration is not None:
        texts = {"Model and training (config.yaml)": configuration, **texts}
    parts += [
        f"<details><summary>{as_text(name)}</summary><pre>{as_text(text)}</pre></details>"
        for name, text in texts.items()
    ]
    path = folder / REPORT
    with whole_file(path) as partial:
        partial.write_text(
            as_page(record["title"], parts, refresh_s=record.get("refresh_s")), encoding="utf-8"
        )
    return path


def as_page(title: str, parts: Sequence[str], *, refresh_s: object = None) -> str:
    """Return a page of these parts, in the style of all reports."""
    return (
        '<!doctype html>\n<html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        # Without an icon the browser would request one from a server.
        '<link rel="icon" href="data:,">'
        f"{_refresh(refresh_s)}"
        f"<title>{as_text(title)}</title><style>{_STYLE}</style></head>"
        f"<body><main>\n{chr(10).join(parts)}\n</main></body></html>\n"
    )


def _check_record(path: Path, record: object) -> None:
    wrong = []
    if not isinstance(record, dict):
        found: Mapping[str, Any] = {}
        wrong.append(f"it is a {type(record).__name__}, expected an object")
    else:
        found = record
        for key, kind in _RECORD_KINDS.items():
            if key not in found:
                wrong.append(f"'{key}' is missing")
            elif not isinstance(found[key], kind):
                wrong.append(f"'{key}' is {found[key]!r:.40}, expected a {kind.__name__}")
    if not wrong and any(not isinstance(t, list) or len(t) != 2 for t in found["tiles"]):
        wrong.append("'tiles' are not pairs of a name and a value")
    if wrong:
        raise DataContractError(
            f"no report can be made: '{path}' is damaged: {'; '.join(wrong)}; reconstruct again"
        )


def _refresh(seconds: object) -> str:
    """Let a browser load the page of a run that goes on again."""
    if not isinstance(seconds, int | float):
        return ""
    return f'<meta http-equiv="refresh" content="{max(1, round(seconds))}">'


def as_text(value: object) -> str:
    """Escape what HTML would take for its own."""
    return html.escape(str(value))


def as_tiles(tiles: Sequence[Sequence[str]]) -> str:
    """Return figures, each a name and a value, that are shown large."""
    inner = "".join(
        f'<div class="tile"><b>{as_text(value)}</b><span class="soft">{as_text(name)}</span></div>'
        for name, value in tiles
    )
    return f'<div class="tiles">{inner}</div>'


def _warnings(warnings: Sequence[str] | None) -> str:
    if warnings is None:
        return ""
    if not warnings:
        return '<p class="soft">No warnings.</p>'
    listed = "".join(f"<li>{as_text(warning)}</li>" for warning in warnings)
    return f'<div class="warnings"><b>Warnings</b><ul>{listed}</ul></div>'


def _pictures(folder: Path, pictures: Sequence[tuple[str, str, str]]) -> str:
    shown = [
        _figure(folder / name, title, text)
        for name, title, text in pictures
        if (folder / name).exists()
    ]
    return f'<div class="pictures">{"".join(shown)}</div>'


def _figure(path: Path, title: str, text: str, kind: str = "") -> str:
    data = base64.b64encode(path.read_bytes()).decode()
    return (
        f'<figure class="{kind}"><img alt="{as_text(title)}" src="data:image/png;base64,{data}">'
        f'<figcaption><b>{as_text(title)}</b><span class="soft">{as_text(text)}</span></figcaption>'
        "</figure>"
    )


def _evaluation(folder: Path, metrics: Mapping[str, Any]) -> str:
    numbers = {
        name.replace("_", " "): _nothing(name) if value is None else _number(value)
        for name, value in metrics.items()
    }
    drawn = ""
    if (folder / "evaluation.png").exists():
        drawn = _figure(
            folder / "evaluation.png",
            "Reconstruction, reference and difference",
            "After global phase, scale, ramp and shift are removed.",
            "wide",
        )
    tiles = [(name, numbers[name]) for name in _HEADLINES if name in numbers]
    listed = f"<details><summary>All figures of merit</summary>{_table(numbers)}</details>"
    return as_tiles(tiles) + drawn + listed


def _nothing(name: str) -> str:
    if name.startswith("frc"):
        return "none: too small a square is covered in the middle"
    return "none: the images are equal"


def _number(value: Any) -> str:
    if isinstance(value, float):
        return f"{value:.4g}"
    if isinstance(value, list):
        return ", ".join(_number(part) for part in value)
    return str(value)


def _table(rows: Mapping[str, Any]) -> str:
    inner = "".join(
        f"<tr><th>{as_text(name)}</th><td>{as_text(_number(value))}</td></tr>"
        for name, value in rows.items()
    )
    return f"<table>{inner}</table>"
