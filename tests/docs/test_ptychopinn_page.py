"""The page for those who come from PtychoPINN leaves none of its names out."""

import importlib.util
import re
from dataclasses import fields
from pathlib import Path

import pytest

import ptychostream as ps
from ptychostream.config.older_schema import OLDER_FIELDS, from_older_schema
from ptychostream.config.ptychopinn_settings import SETTINGS, VALUES
from ptychostream.errors import ConfigurationError
from ptychostream.legacy import OWN_FIELDS

ROOT = Path(__file__).parents[2]


def _filled(page):
    """A page as mkdocs fills it."""
    spec = importlib.util.spec_from_file_location("hook", ROOT / "docs/hooks/ptychopinn.py")
    hook = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(hook)
    return hook.on_page_markdown((ROOT / "docs" / page).read_text())


@pytest.fixture(scope="module")
def page():
    return _filled("how-to/come-from-ptychopinn.md")


def test_no_marker_is_left(page):
    assert "<!-- generated" not in page


def test_the_contract_lists_every_field_in_its_order():
    contract = _filled("reference/contract.md")
    assert "<!-- generated" not in contract
    for kind in (ps.ModelConfig, ps.TrainingConfig, ps.InferenceConfig, ps.PyTorchExecutionConfig):
        section = contract.split(f"\n### {kind.__name__}\n")[1].split("\n#")[0]
        listed = re.findall(r"^\| `(\w+)` \| `(.*?)` \|", section, re.MULTILINE)
        own = [item.name for item in fields(kind) if item.name != "model"]
        assert [name for name, _ in listed] == own
        assert len(section.splitlines()) > len(own) + 2


@pytest.mark.parametrize(
    "kind", [ps.ModelConfig, ps.TrainingConfig, ps.InferenceConfig, ps.PyTorchExecutionConfig]
)
def test_every_field_of_ptychopinn_is_on_the_page(page, kind):
    listed = set(re.findall(rf"`{kind.__name__}\.(\w+)`", page))
    own = {item.name for item in fields(kind)} - OWN_FIELDS - {"model"}
    assert listed == own | set(SETTINGS.get(kind.__name__, {}))


def test_every_setting_and_value_of_the_port_is_on_the_page(page):
    for name in [*OLDER_FIELDS, *(f"{k}.{n}" for k, names in SETTINGS.items() for n in names)]:
        assert f"| `{name}` |" in page, name
    for field, values in VALUES.items():
        assert all(f"| `{field}={value!r}` |" in page for value in values)


@pytest.mark.parametrize("command", ["train", "reconstruct"])
def test_every_option_is_on_the_page(page, command):
    from ptychostream.cli import aliases

    tables = (aliases._WITH_VALUE, aliases._SWITCHES, aliases._REFUSED, aliases._DEPRECATED)
    for name in {name for table in tables for name in table[command]}:
        assert f"| `{command}` | `{name}` |" in page, name
    assert len(re.findall(rf"(?m)^\| `{command}` \| `--", page)) == len(aliases.options_of(command))


def _counted(page, row):
    (numbers,) = re.findall(rf"(?m)^\| {row} \| (\d+) \| (\d+) \| (\d+) \|$", page)
    return tuple(map(int, numbers))


@pytest.mark.parametrize("command", ["train", "reconstruct"])
def test_options_are_counted_as_the_command_takes_them(page, command):
    from ptychostream.cli import aliases

    refused = 0
    names = aliases.options_of(command)
    for name in names:
        value = next(iter(aliases._CHOICES.get(name, ["1"])))
        try:
            aliases.expand_aliases(command, [name, value])
        except ConfigurationError as error:
            assert "is PtychoPINN's, and not an option here" in str(error)
            refused += 1
    counted = _counted(page, f"Options that `ptychostream {command}` knows")
    assert counted == (len(names) - refused, 0, refused)


def test_fields_and_settings_are_counted_as_they_are_taken(page):
    kinds = (ps.ModelConfig, ps.TrainingConfig, ps.InferenceConfig, ps.PyTorchExecutionConfig)
    shared = [{item.name for item in fields(kind)} - OWN_FIELDS - {"model"} for kind in kinds]
    assert _counted(page, "Fields of the dataclasses") == (sum(map(len, shared)), 0, 0)
    refused = 0
    for name in [n for names in SETTINGS.values() for n in names]:
        try:
            from_older_schema({name: "other"})
        except ConfigurationError:
            refused += 1
    every = sum(map(len, SETTINGS.values()))
    row = "Settings of the PyTorch port with another name or none"
    assert _counted(page, row) == (len(OLDER_FIELDS), every - refused, refused)
