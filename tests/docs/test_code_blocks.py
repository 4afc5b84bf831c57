"""Every code block of the documentation runs, or says why not."""

import importlib.util
from pathlib import Path

import matplotlib.pyplot as plt
import pytest

ROOT = Path(__file__).parents[2]
PAGES = [*sorted((ROOT / "docs").rglob("*.md")), ROOT / "README.md", ROOT / "CONTRIBUTING.md"]
#: Tests of their own look at what comes out.
RUN_ELSEWHERE = {"README.md", "write-a-generator.md"}
WITH_CODE = [
    page for page in PAGES if page.name not in RUN_ELSEWHERE and "\n```" in page.read_text()
]


@pytest.fixture(scope="module")
def runner():
    spec = importlib.util.spec_from_file_location("run_page", ROOT / "examples" / "run_page.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.mark.parametrize("page", WITH_CODE, ids=lambda page: page.relative_to(ROOT).as_posix())
def test_every_block_runs_or_says_why_not(page, runner, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    text = page.read_text()
    ran = runner.run_blocks(text, tmp_path)
    plt.close("all")
    assert all(block in ran or block.reason for block in runner.blocks(text))


def test_a_block_that_neither_runs_nor_says_why_is_found(runner):
    with pytest.raises(ValueError, match="language 'julia'"):
        runner.blocks("```julia\n1 + 1\n```\n")
    (block,) = runner.blocks("<!-- not run: it is in Julia -->\n```julia\n1 + 1\n```\n")
    assert block.reason == "it is in Julia"


def test_a_block_that_fails_is_found(runner, tmp_path):
    with pytest.raises(RuntimeError, match="failed: ptychostream info none"):
        runner.run_blocks("```sh\nptychostream info none\n```\n", tmp_path)
    with pytest.raises(ZeroDivisionError):
        runner.run_blocks("```python\n1 / 0\n```\n", tmp_path)
