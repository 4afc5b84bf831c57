"""Fill pages with what the code knows: each command's help, each configuration's fields.

Folders whose pages are many fill their part of the navigation themselves.
"""

import os
from dataclasses import is_dataclass
from pathlib import Path

from docstring_parser import parse

from ptychostream.cli.main import COMMANDS, find_command
from ptychostream.config import (
    InferenceConfig,
    ModelConfig,
    PyTorchExecutionConfig,
    TrainingConfig,
)
from ptychostream.config.describe import describe_fields

#: Parts of the navigation that are folders.
_FOLDERS = {"How to": "how-to", "Decisions": "decisions"}


def on_config(config):
    """List the pages of folders in the navigation; called by mkdocs."""
    root = Path(config["docs_dir"])
    for part in config["nav"]:
        for name in part.keys() & _FOLDERS.keys():
            pages = sorted((root / _FOLDERS[name]).glob("*.md"), key=_overview_first)
            part[name] = [page.relative_to(root).as_posix() for page in pages]
    return config


def _overview_first(page):
    return page.stem != "README", page.stem


def on_page_markdown(markdown, **_):
    """Replace the markers of a page; called by mkdocs."""
    for name, generate in (("command line", command_line), ("configuration", configuration)):
        marker = f"<!-- generated: {name} -->"
        if marker in markdown:
            markdown = markdown.replace(marker, generate())
    return markdown


def command_line():
    """Help of every command."""
    os.environ["COLUMNS"] = "100"  # argparse wraps at the terminal's width
    parts = []
    for name, summary in COMMANDS.items():
        parser = find_command(name).make_parser()
        text = parser.format_help().rstrip()
        parts.append(f"## {name}\n\n{summary[0].upper()}{summary[1:]}.\n\n```text\n{text}\n```\n")
    return "\n".join(parts)


def configuration():
    """Fields of every configuration."""
    parts = []
    for kind in (TrainingConfig, ModelConfig, PyTorchExecutionConfig, InferenceConfig):
        rows = []
        for each in describe_fields(kind).values():
            default = "…" if is_dataclass(each.default) else each.default
            meaning = each.meaning.replace("|", "\\|")
            rows.append(f"| `{each.name}` | `{default}` | {each.allowed} | {meaning} |")
        summary = parse(kind.__doc__).short_description
        parts.append(
            f"## {kind.__name__}\n\n{summary}\n\n"
            "| Field | Default | Allowed | What it does |\n|---|---|---|---|\n"
            + "\n".join(rows)
            + "\n"
        )
    return "\n".join(parts)
