"""Pages that the documentation makes from the code name every option and every field."""

import re
from argparse import SUPPRESS
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path

import pytest

import ptychostream as ps
from ptychostream.cli.main import COMMANDS, find_command
from ptychostream.config.describe import describe_fields

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def generate():
    spec = spec_from_file_location("generate", ROOT / "docs" / "hooks" / "generate.py")
    module = module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.mark.parametrize("page", ["command-line", "configuration"])
def test_no_marker_of_a_generated_page_is_left(generate, page):
    text = (ROOT / "docs" / "reference" / f"{page}.md").read_text()
    assert "<!-- generated: " in text
    assert "<!-- generated: " not in generate.on_page_markdown(text)


def test_the_page_of_the_command_line_has_every_option_of_every_command(generate, monkeypatch):
    monkeypatch.setenv("COLUMNS", "100")
    page = generate.command_line()
    sections = dict(re.findall(r"(?s)## (\w+)\n(.*?)(?=\n## |\Z)", page))
    assert list(sections) == list(COMMANDS)
    for name, section in sections.items():
        for action in find_command(name).make_parser()._actions:
            if action.help != SUPPRESS:
                for flag in action.option_strings:
                    assert flag == "--print_shtab" or flag in section


def test_the_page_of_the_configuration_has_every_field_with_what_is_allowed(generate):
    page = generate.configuration()
    for kind in (ps.ModelConfig, ps.TrainingConfig, ps.InferenceConfig, ps.PyTorchExecutionConfig):
        for field in describe_fields(kind).values():
            assert re.search(rf"\| `{field.name}` \| .* \| {re.escape(field.allowed)} \|", page)
