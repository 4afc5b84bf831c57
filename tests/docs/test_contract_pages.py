"""The contract's pages say what the code has: keys, shapes, options and files."""

import re
from dataclasses import fields
from pathlib import Path

import pytest

import ptychostream as ps
from ptychostream.datasets.grouping.parameters import GroupingParameters
from ptychostream.ptychopinn.container import load

ROOT = Path(__file__).parents[2]
CONTRACT = (ROOT / "docs" / "reference" / "contract.md").read_text()
PARITY = (ROOT / "docs" / "reference" / "parity.md").read_text()


def _rows(page, heading):
    """Return the rows of the first table below a heading, as cells."""
    table = page.split(f"\n## {heading}\n")[1].split("\n|---")[1]
    lines = [line for line in table.split("\n\n")[0].splitlines()[1:] if line.startswith("|")]
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in lines]


LETTERS = {"B": 5, "N": 16, "C": 4, "2": 2, "1": 1}


def _shape(text):
    return tuple(LETTERS[letter] for letter in text.strip("()").split(", "))


@pytest.fixture(scope="module")
def grouped(tiny_scan):
    raw = ps.RawDataTorch.from_scan(tiny_scan)
    return raw.generate_grouped_data(16, K=6, nsamples=5, gridsize=2, seed=0)


def test_the_table_of_the_dictionary_is_the_dictionary(grouped):
    listed, shape = [], "as above"
    for names, axes, kind, _ in _rows(CONTRACT, "Grouped dictionary"):
        for name in re.findall(r"`(\w+)`", names):
            listed.append(name)
            if name in ("objectGuess", "sample_indices"):
                continue
            shape = axes if axes != "as above" else None
            if shape:
                assert grouped[name].shape == _shape(shape), name
            assert str(grouped[name].dtype) in kind, name
    assert listed[-1] == "sample_indices"
    # The pairs of nominal positions stand in one row.
    assert set(listed[:-1]) == set(grouped)


def test_the_table_of_the_container_is_the_container(grouped, tiny_scan):
    container = load(lambda: grouped, tiny_scan.probe[0])
    for names, axes, _ in _rows(CONTRACT, "Container"):
        shapes = re.findall(r"\([^)]*\)", axes)
        for number, name in enumerate(re.findall(r"`(\w+)`", names)):
            value = getattr(container, name)
            if shapes and shapes[0] != "()":
                assert value.shape == _shape(shapes[min(number, len(shapes) - 1)]), name


def test_every_option_of_groups_is_listed():
    listed = {name for row in _rows(CONTRACT, "Groups") for name in re.findall(r"`(\w+)", row[0])}
    text = CONTRACT.split("\n## Groups\n")[1].split("\n## ")[0]
    for item in fields(GroupingParameters):
        assert item.name in listed or item.name in text or item.name == "seed", item.name


@pytest.mark.parametrize("page", [CONTRACT, PARITY], ids=["contract", "parity"])
def test_every_file_that_a_page_names_is_there(page):
    named = set(re.findall(r"`([\w/]+\.py)`", page))
    assert named
    for name in named:
        places = [ROOT / name, ROOT / "ptychostream" / name, ROOT / "tests" / "ptychopinn" / name]
        assert any(place.is_file() for place in places), name
