"""What the backend does not have is refused; the reference lists every field.

`python tests/ptychopinn/test_fields.py` writes the tables into the reference again.
"""

import dataclasses
import re
from pathlib import Path

import pytest

import ptychostream as ps
from ptychostream.config.older_schema import OLDER_FIELDS
from ptychostream.errors import ConfigurationError
from ptychostream.legacy import KEY_MAPPINGS, OWN_FIELDS
from ptychostream.training.checks import check_supported

ROOT = Path(__file__).parents[2]
REFERENCE = ROOT / "docs" / "reference" / "contract.md"

KINDS = (ps.ModelConfig, ps.TrainingConfig, ps.InferenceConfig, ps.PyTorchExecutionConfig)

#: Any value but the default is an error of the PyTorch backend.
REFUSED = {
    "positions_provided": (ps.TrainingConfig, False),
    "persistent_workers": (ps.PyTorchExecutionConfig, True),
}


def names_of(kind):
    return [item.name for item in dataclasses.fields(kind) if item.name != "model"]


@pytest.mark.parametrize(("name", "refused"), REFUSED.items())
def test_what_the_backend_does_not_have_is_refused_by_name(name, refused):
    kind, value = refused
    parts = {ps.TrainingConfig: {}, ps.PyTorchExecutionConfig: {}}
    parts[kind][name] = value
    with pytest.raises(ConfigurationError, match=name):
        check_supported(
            ps.TrainingConfig(**parts[ps.TrainingConfig]),
            ps.PyTorchExecutionConfig(**parts[ps.PyTorchExecutionConfig]),
        )


def _table(kind):
    older = {}
    for old, new in OLDER_FIELDS.items():
        older.setdefault(new, []).append(f"`{old}`")
    lines = [
        "| Field | Default | Older PyTorch name | Legacy key |",
        "|---|---|---|---|",
    ]
    for name in names_of(kind):
        key = f"`{KEY_MAPPINGS.get(name, name)}`"
        if name in OWN_FIELDS or kind is ps.PyTorchExecutionConfig:
            key = "none"
        is_older = kind in (ps.ModelConfig, ps.TrainingConfig)
        old = ", ".join(older.get(name, ["same"])) if is_older else "none"
        default = getattr(kind(), name)
        shown = default if isinstance(default, str | int | float | type(None)) else str(default)
        lines.append(f"| `{name}` | `{shown!r}` | {old} | {key} |")
    return "\n".join(lines) + "\n"


def _section(kind):
    return rf"(?s)(?<=<!-- fields of {kind.__name__} -->\n).*?(?=<!-- end -->)"


@pytest.mark.parametrize("kind", KINDS)
def test_the_reference_lists_every_field(kind):
    found = re.search(_section(kind), REFERENCE.read_text())
    assert found is not None
    assert found[0] == _table(kind)


if __name__ == "__main__":
    text = REFERENCE.read_text()
    for each in KINDS:
        text = re.sub(_section(each), lambda _, each=each: _table(each), text, count=1)
    REFERENCE.write_text(text)
