"""The how-to's example, run as it stands."""

import re
from pathlib import Path

import numpy as np

from ptychostream.models.generators import GENERATORS

PAGE = Path(__file__).parents[2] / "docs" / "how-to" / "write-a-generator.md"


def test_the_example_trains_and_reconstructs(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (block,) = re.findall(r"```python\n(.*?)```", PAGE.read_text(), flags=re.DOTALL)
    names: dict[str, object] = {}
    try:
        exec(block, names)
    finally:
        GENERATORS.pop("ripple", None)
    assert names["result"].object.shape == names["scan"].object_guess.shape
    assert np.isfinite(names["result"].object).all()
    assert names["bundle"].model.generator.hidden.out_channels == 16
