"""What messages advise exists: options, commands, extras."""

import ast
import re
import tomllib
from collections.abc import Iterator
from pathlib import Path

import pytest

from ptychostream.cli.main import COMMANDS, find_command

ROOT = Path(__file__).parents[2]
#: Of programs beside `ptychostream` that texts name.
OTHERS = {
    "--version": "ptychostream itself",
    "--install": "python -m ptychodus_ext.install",
    "--remove": "python -m ptychodus_ext.install",
    "--force-reinstall": "pip",
    "--no-deps": "pip",
    "--nnodes": "torchrun",
    "--nproc_per_node": "torchrun",
    "--rdzv_endpoint": "torchrun",
}


def strings_of(path: Path) -> Iterator[str]:
    """Return each text of a file but its docstrings; formatted values are shown as X."""
    tree = ast.parse(path.read_text())
    owners = (ast.Module, ast.ClassDef, ast.FunctionDef)
    docstrings = {
        id(node.body[0].value)
        for node in ast.walk(tree)
        if isinstance(node, owners) and node.body and isinstance(node.body[0], ast.Expr)
    }
    for node in ast.walk(tree):
        if isinstance(node, ast.JoinedStr):
            yield "".join(v.value if isinstance(v, ast.Constant) else "X" for v in node.values)
        elif isinstance(node, ast.Constant) and id(node) not in docstrings:
            yield str(node.value)


@pytest.fixture(scope="module")
def texts():
    files = [*(ROOT / "ptychostream").rglob("*.py"), *(ROOT / "ptychodus_ext").rglob("*.py")]
    style = ":root {"  # names of a style sheet look like options
    return [
        (path, text)
        for path in files
        if path.name != "aliases.py"  # the flags of PtychoPINN
        for text in strings_of(path)
        if style not in text
    ]


@pytest.fixture(scope="module")
def options():
    parsers = [find_command(command).make_parser() for command in COMMANDS]
    return {word for parser in parsers for word in parser._option_string_actions}


def named(texts, pattern: str) -> Iterator[tuple[str, str]]:
    for path, text in texts:
        for word in re.findall(pattern, text):
            yield word, f"{path.relative_to(ROOT)}: {text}"


def test_every_option_that_is_named_exists(texts, options):
    found = [*named(texts, r"(?<![\w-])--[a-z][a-z_.-]*[a-z](?![\w-])")]
    assert len(found) > 100
    unknown = {word: where for word, where in found if word not in options | set(OTHERS)}
    assert not unknown, "\n".join(unknown)


def test_every_command_that_is_named_exists(texts):
    found = [*named(texts, r"`ptychostream ([a-z]\w*)")]
    assert len(found) > 10
    assert not {word: where for word, where in found if word not in COMMANDS}


def test_every_extra_that_is_named_exists(texts):
    extras = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    found = [*named(texts, r"ptychostream\[(\w+)\]")]
    assert len(found) > 5
    assert not {w: where for w, where in found if w not in {*extras["optional-dependencies"], "X"}}
