"""The README's tour, run as it stands."""

import re
import shlex
from pathlib import Path

import pytest

from ptychostream.cli.main import main

ROOT = Path(__file__).parents[2]
README = (ROOT / "README.md").read_text()


def _blocks(language: str) -> list[str]:
    return re.findall(rf"```{language}\n(.*?)```", README, flags=re.DOTALL)


@pytest.mark.slow
def test_the_commands_of_the_tour_run(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    lines = [line for block in _blocks("sh") for line in block.strip().splitlines()]
    assert len(lines) == 7
    for line in lines:
        program, *words = shlex.split(line)
        assert program == "ptychostream"
        assert main(words) == 0, line
    assert (tmp_path / "result" / "evaluation.png").is_file()
    assert (tmp_path / "by_network" / "report.html").is_file()
    said = capsys.readouterr().out
    correlation = re.search(r"phase_correlation +([\d.]+)", said)
    assert float(correlation[1]) > 0.95


@pytest.mark.slow
def test_the_python_of_the_tour_runs(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (block,) = _blocks("python")
    names: dict[str, object] = {}
    exec(block, names)
    assert names["batch"]["diffraction"].shape == (64, 4, 64, 64)
    assert names["result"].object.shape == names["scan"].object_guess.shape
    assert (tmp_path / "model" / "wts.h5.zip").is_file()


def test_every_link_in_the_documents_leads_somewhere():
    for document in [ROOT / "README.md", *(ROOT / "docs").rglob("*.md")]:
        for target in re.findall(r"\]\(([^)#]+)\)", document.read_text()):
            if not target.startswith("http"):
                assert (document.parent / target).exists(), f"{document.name}: {target}"
