"""One page about many results: a line each, with its picture and a link to its own page."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from ptychostream.evaluation.report import REPORT, as_page, as_text, as_tiles
from ptychostream.files import whole_file

_STYLE = """<style>
.all { overflow-x: auto; } .all td, .all th { width: auto; padding: .3rem .6rem; }
.all img { height: 72px; display: block; } td.number { text-align: right; }
</style>"""


def write_overview(
    folder: Path,
    title: str,
    tiles: Sequence[tuple[str, str]],
    columns: Sequence[str],
    rows: Sequence[Mapping[str, Any]],
    links: Mapping[Any, str],
) -> Path:
    """Write `report.html` of a table; `links` name the folders of results by the first column.

    Pictures stay in these folders, so that the page remains small.
    """
    head = "".join(f"<th>{as_text(name.replace('_', ' '))}</th>" for name in ("object", *columns))
    body = "".join(
        f"<tr>{_picture(links.get(row[columns[0]]))}"
        f"{''.join(_cell(row.get(name)) for name in columns)}</tr>\n"
        for row in rows
    )
    parts = [
        _STYLE,
        f"<h1>{as_text(title)}</h1>",
        as_tiles(tiles),
        f'<div class="all"><table><tr>{head}</tr>\n{body}</table></div>',
    ]
    path = folder / REPORT
    with whole_file(path) as partial:
        partial.write_text(as_page(title, parts), encoding="utf-8")
    return path


def _picture(link: str | None) -> str:
    if link is None:
        return "<td></td>"
    page, picture = as_text(f"{link}/{REPORT}"), as_text(f"{link}/phase.png")
    return f'<td><a href="{page}"><img alt="phase" loading="lazy" src="{picture}"></a></td>'


def _cell(value: Any) -> str:
    if isinstance(value, int | float):
        return f'<td class="number">{value:,}</td>'
    return f"<td>{as_text('' if value is None else value)}</td>"
