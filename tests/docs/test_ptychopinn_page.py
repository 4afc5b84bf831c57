"""The page for those who come from PtychoPINN leaves none of its names out."""

import importlib.util
import re
from dataclasses import fields
from pathlib import Path

import pytest

import ptychostream as ps
from ptychostream.config.older_schema import OLDER_FIELDS
from ptychostream.config.ptychopinn_settings import SETTINGS, VALUES
from ptychostream.legacy import OWN_FIELDS

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def page():
    """The page as mkdocs fills it."""
    spec = importlib.util.spec_from_file_location("hook", ROOT / "docs/hooks/ptychopinn.py")
    hook = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(hook)
    return hook.on_page_markdown((ROOT / "docs/how-to/come-from-ptychopinn.md").read_text())


def test_no_marker_is_left(page):
    assert "<!-- generated" not in page


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
