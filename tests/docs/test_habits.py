"""What runs before a commit and in CI is what `make check` runs."""

import re
from pathlib import Path

import yaml

ROOT = Path(__file__).parents[2]
MAKEFILE = (ROOT / "Makefile").read_text()


def test_every_check_runs_before_a_commit():
    recipe = re.search(r"\ncheck:.*\n((?:\t.*\n)+)", MAKEFILE).group(1)
    tools = set(re.findall(r"\$\(BIN\)/([\w-]+)", recipe))
    hooks = yaml.safe_load((ROOT / ".pre-commit-config.yaml").read_text())["repos"][0]["hooks"]
    entries = " ".join(hook["entry"] for hook in hooks)
    assert tools - {"numpydoc"} <= set(re.findall(r"\.venv/bin/([\w-]+)", entries))
    assert "make docstrings" in entries


def test_the_workflow_runs_the_ci_script_on_the_supported_pythons():
    workflow = yaml.safe_load((ROOT / ".github" / "workflows" / "ci.yml").read_text())
    job = workflow["jobs"]["run"]
    assert {"run": ".ci/run"} in job["steps"]
    declared = re.findall(
        r'"Programming Language :: Python :: (3\.\d+)"', (ROOT / "pyproject.toml").read_text()
    )
    assert job["strategy"]["matrix"]["python"] == declared


def test_make_help_lists_every_target_that_the_header_describes():
    described = re.findall(r"(?m)^# make ([\w-]+) ", MAKEFILE)
    assert {"help", "demo", "test", "check", "docs", "package"} <= set(described)
    for target in described:
        assert re.search(rf"(?m)^{target}:", MAKEFILE)
