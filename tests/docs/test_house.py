"""The page about the folders is complete, and its picture can be drawn."""

import importlib.util
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "explanation" / "house.md").read_text()


@pytest.fixture(scope="module")
def house():
    spec = importlib.util.spec_from_file_location("house", ROOT / "examples" / "house.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_every_folder_has_a_paragraph():
    package = ROOT / "ptychostream"
    for init in [*package.glob("*/__init__.py"), *(package / "datasets").glob("*/__init__.py")]:
        folder = init.parent.relative_to(package).as_posix()
        assert folder == "datasets" or f"`{folder}`" in PAGE, folder


def test_every_file_on_the_page_exists():
    package = ROOT / "ptychostream"
    for name in re.findall(r"`([\w/]+\.py)`", PAGE):
        assert any(package.rglob(name)), name


def test_every_layer_is_drawn_with_its_idea(house, tmp_path):
    rows, rooms = house.layers(ROOT)
    names = [name.removeprefix("ptychostream.") for row in rows for name in row]
    assert set(names) | set(rooms) <= house.IDEAS.keys() | {"_version"}
    house.draw(rows, rooms, tmp_path / "house.png")
    assert (tmp_path / "house.png").stat().st_size > 10_000


def test_no_modules_import_one_another_in_a_circle(house):
    files = house.modules(ROOT)
    graph = {name: house.imports(name, path, files) for name, path in files.items()}
    assert house.circles(graph) == []
    assert house.circles({"a": {"b"}, "b": {"c"}, "c": {"b"}}) == [["b", "c"]]
